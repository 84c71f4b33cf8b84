"""Benchmarks of the core: hops, freshness, failover, replicas, endurance."""
