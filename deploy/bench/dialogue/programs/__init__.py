"""What `bench turn --peer` runs, each system in a process of its own: ours, and others with the Python of theirs."""
