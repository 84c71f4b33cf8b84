"""Decisions of a conversation: whose turn it is, what has been played, what is told to the person."""
