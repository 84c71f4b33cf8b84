"""Joins: packets of several streams are matched by their capture times. Policies, buffers and their counters."""
