"""Benchmarks of speech recognition."""
