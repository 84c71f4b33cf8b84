"""The core: packets, signals, channels and the decisions taken about them.

State machines only: they are told what happened, with the time, and say what to do. No socket, device,
model, thread or event loop lives here, and nothing here imports another room.
"""
