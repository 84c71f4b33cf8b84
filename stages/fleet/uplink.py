"""The end of a node's pipeline that leads to its hub: packets go into the node's spool, which outlives everything."""

from __future__ import annotations

import asyncio
import os
import struct
import time
from typing import Annotated, Any, Final, Literal

import msgpack
from pydantic import Field

from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.fleet.deadlines import Account, Times
from thalweg.pipeline.fleet.telemetry import Telemetry
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Payload
from thalweg.pipeline.stage import Context, Port
from thalweg.stages.fleet.plain import packet_plain

NODE: Final = "THALWEG_NODE"
STATE: Final = "~state"
STATE_S = 1.0
_LENGTH = struct.Struct("<I")


class UplinkError(ThalwegError):
    """The node's agent cannot be reached, or does not take something."""


class Uplink:
    """Hands packets to the node's agent, which stores them and sends them to the hub when there is a link.

    `events` are on the disk before the next packet is taken; `telemetry` within a second; `media` give way first where
    the disk is full. What the spool has no room for is reported and counted, and the pipeline goes on. An agent that
    restarts is waited for, `patience` seconds, then packets are lost and counted. Of telemetry the agent learns whether
    the vehicle is armed.
    """

    inputs = {"any": Port(Payload, many=True)}
    keeps = "what it is given, on this machine until the hub has it, and there"

    def __init__(
        self,
        kind: Annotated[Literal["events", "telemetry", "media"], Field(description="how much it matters")] = "events",
        patience: Annotated[float, Field(ge=0, description="seconds to wait for an agent that is away")] = 5.0,
    ) -> None:
        self._kind = kind
        self._patience_s = patience
        self._path = os.environ.get(NODE, "")
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._number = 0
        self._told_s = -float("inf")
        self._deadlines = Account()
        self.counts = {"stored": 0, "lost": 0, "made": 0, "in_time": 0, "late": 0}

    def open(self, ctx: Context) -> None:
        """Raises UplinkError where this is no node."""
        if not self._path:
            raise UplinkError("fleet.uplink runs on a node: there is no agent here; `thalweg node run` starts one")

    async def process(self, packet: Packet, ctx: Context) -> None:
        """Hand over one packet, and wait until it is stored."""
        self._account(packet, ctx.now_ns())
        if isinstance(packet.payload, Telemetry):
            await self._tell_state(packet.payload)
        record = msgpack.packb(packet_plain(packet))
        self._number += 1
        asked = [self._number, self._kind, packet.stream, time.time_ns() - max(0, ctx.now_ns() - packet.time), record]
        refusal = await self._hand_over(msgpack.packb(asked))
        self.counts["lost" if refusal else "stored"] += 1
        if refusal:
            ctx.report(refusal)

    def close(self) -> None:
        """Hang up."""
        if self._writer is not None:
            self._writer.close()
            self._reader = self._writer = None

    def _account(self, packet: Packet, now_ns: int) -> None:
        if packet.deadline is None:
            return
        self._deadlines.make()
        took = Times(queue_ns=0, compute_ns=max(0, now_ns - packet.time))
        self._deadlines.arrive(took, packet.deadline - packet.time)
        self.counts |= {"made": self._deadlines.made, "in_time": self._deadlines.in_time, "late": self._deadlines.late}

    async def _tell_state(self, vehicle: Telemetry) -> None:
        """How the vehicle is, once a second: releases are tried while it is disarmed."""
        now_s = time.monotonic()
        if now_s - self._told_s < STATE_S:
            return
        self._told_s = now_s
        self._number += 1
        state = {name: getattr(vehicle, name) for name in ("armed", "latitude", "longitude", "altitude_m", "battery")}
        await self._hand_over(msgpack.packb([self._number, "", STATE, 0, msgpack.packb(state)]))

    async def _hand_over(self, body: bytes) -> str:
        """Why it was not stored, or nothing."""
        until_s = time.monotonic() + self._patience_s
        while True:
            try:
                answer = await self._ask(body)
            except (OSError, asyncio.IncompleteReadError) as error:
                self.close()
                if time.monotonic() >= until_s:
                    return f"the node's agent is away: {getattr(error, 'strerror', None) or error}"
                await asyncio.sleep(0.2)
                continue
            return str(answer[1])

    async def _ask(self, body: bytes) -> Any:
        if self._writer is None or self._reader is None:
            self._reader, self._writer = await asyncio.open_unix_connection(self._path)
        self._writer.write(_LENGTH.pack(len(body)) + body)
        await self._writer.drain()
        (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
        return msgpack.unpackb(await self._reader.readexactly(length))
