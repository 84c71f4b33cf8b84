"""Benchmarks of several modalities."""
