"""Decisions about several modalities: order of units, skipping, configuration per sample."""
