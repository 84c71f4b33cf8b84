"""Unit encoders, temporal aggregation, fusion and predictors of several modalities."""
