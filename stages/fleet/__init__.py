"""Stages of pipelines that run on a node at the edge."""
