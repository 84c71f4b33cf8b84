"""What the systems we measure language models against run: with the Python of its peer, none of it with ours."""
