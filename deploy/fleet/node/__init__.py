"""The agent of a node: keeps its pipelines and its spool, with a hub or without one."""
