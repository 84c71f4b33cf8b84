"""What `bench wer` and `bench long` run with another system's Python."""
