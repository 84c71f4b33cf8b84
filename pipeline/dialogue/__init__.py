"""State machines of a conversation: turn-taking, play-out, and the events sent to the visitor."""
