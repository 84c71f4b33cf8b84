"""The model store: registry, downloads, hub checkpoints, models shared within a process."""
