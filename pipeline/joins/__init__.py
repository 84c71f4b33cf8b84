"""Matching packets of several streams by their capture times: policies, buffers and the account of both."""
