"""Benchmarks of nodes at the edge."""
