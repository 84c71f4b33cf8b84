"""How packets cross a boundary: memory, shared memory, gRPC, WebRTC, spool. May import `thalweg.pipeline`."""
