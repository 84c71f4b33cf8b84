"""Pipelines, plans and runs as pictures, and plans as text."""
