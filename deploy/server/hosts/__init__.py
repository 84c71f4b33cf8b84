"""Conversations on hosts of their own, behind a front: `thalweg serve FILE --on …`.

A conversation host runs what a server of one process runs for its conversations, and is reached by fronts only. A front
has everything the public reaches but the media, which goes straight between a person and the host. Nothing of a
conversation itself is here (`deploy/server`), and nothing of the pipeline's own workers (`deploy/cluster`).
"""
