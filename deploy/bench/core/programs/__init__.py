"""What the systems we measure against run: each program with the Python of its peer, none of it with ours."""
