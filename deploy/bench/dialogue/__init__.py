"""Benchmarks of conversations: turns, sessions, WebRTC."""
