"""`thalweg new`: working starts of somebody's own stages and pipelines."""
