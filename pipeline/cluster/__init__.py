"""Decisions about many workers: restarts after a loss, replicas of a stage. Nothing here starts a process."""
