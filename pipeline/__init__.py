"""The core: packets, signals, channels, and the state machines that decide about them.

A state machine takes events, with the time, and returns actions. This folder holds no socket, device, model, thread or
event loop, and imports no other top-level folder.
"""
