"""Storing and forwarding between a node and its hub: segments on the disk, and the spool that is made of them."""
