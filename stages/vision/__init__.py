"""Vision: regions that matter, relevance models, text in frames."""
