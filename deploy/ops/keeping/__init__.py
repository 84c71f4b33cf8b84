"""Deployments that stay: begun by `thalweg up`, kept by a supervising process, operated from a terminal."""
