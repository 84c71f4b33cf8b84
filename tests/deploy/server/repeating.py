"""A stage for other processes: what it takes it gives."""

from __future__ import annotations

from thalweg import AudioChunk, Context, Packet, Port


class Repeat:
    """Sound as it came."""

    inputs = {"audio": Port(AudioChunk)}
    outputs = {"audio": Port(AudioChunk)}

    def process(self, packet: Packet[AudioChunk], ctx: Context) -> None:
        ctx.count("repeated")
        ctx.emit(packet.payload)
