"""Vision models: text recognition, detectors, patch relevance."""
