"""Several modalities: replayed samples, unit encoders, decisions, per-sample configuration."""
