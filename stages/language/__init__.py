"""Language: chat with a model, its answers and drafts, what a camera read put into words."""
