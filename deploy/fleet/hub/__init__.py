"""The hub: knows every node, keeps what they send, says what they run."""
