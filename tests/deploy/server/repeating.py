"""A stage for other processes: what it takes it gives."""

from __future__ import annotations

from thalweg import AudioChunk, Context, Packet, Port


class Repeat:
    """Sound as it came."""

    inputs = {"audio": Port(AudioChunk)}
    outputs = {"audio": Port(AudioChunk)}

    def __init__(self) -> None:
        self.counts = {"repeated": 0}

    def process(self, packet: Packet[AudioChunk], ctx: Context) -> None:
        self.counts["repeated"] += 1
        ctx.emit(packet.payload)
