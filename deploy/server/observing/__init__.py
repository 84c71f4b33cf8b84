"""What a server tells of its conversations: figures for people who talk, and metrics."""
