"""Transports of packets: memory, shared memory, gRPC, WebRTC, spool. May import `thalweg.pipeline`."""
