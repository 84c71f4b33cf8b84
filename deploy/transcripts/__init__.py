"""Transcripts of recordings as files: what is said when, in the forms that players, editors and programs read.

Everything of `thalweg transcribe` but its options. Nothing here knows of pipelines in files or of servers.
"""
