"""Decisions of a node at the edge and of its hub: what is kept, what is run, where, and what became of deadlines."""
