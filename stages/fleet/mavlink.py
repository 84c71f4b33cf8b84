"""`mavlink.telemetry`: listens to an autopilot. It sends it nothing, ever."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from pydantic import Field

from thalweg.pipeline.fleet.telemetry import Telemetry, Vehicle
from thalweg.pipeline.stage import Context
from thalweg.stages.fleet.agent_link import AgentLink
from thalweg.stages.fleet.mavlink_link import MavlinkError, MavlinkLink

__all__ = ["MavlinkError", "MavlinkTelemetry"]

_WANTED = ("HEARTBEAT", "GLOBAL_POSITION_INT", "ATTITUDE", "SYS_STATUS")


class MavlinkTelemetry:
    """Position, attitude, battery and mode of one vehicle, a packet per position, at the time it was measured.

    Garbage, floods, other vehicles' messages and impossible numbers are dropped and counted; a link that breaks is
    opened again. Messages are not verified: a peer that can write to the link can forge the vehicle's position, within
    what a vehicle can do. Use a link that only the autopilot writes to.

    On a node its agent is told with every heartbeat whether the vehicle is armed, positions or not.
    """

    outputs = {"telemetry": Telemetry}

    def __init__(
        self,
        link: Annotated[
            str, Field(description="`udp:HOST:PORT` to listen at, `tcp:HOST:PORT`, or `serial:/dev/ttyACM0:57600`")
        ],
        system: Annotated[int, Field(ge=0, le=255, description="system id to believe; 0: the first autopilot")] = 0,
    ) -> None:
        self._link = MavlinkLink(link)
        self._vehicle = Vehicle(system)
        self._parser: Any = None
        self._agent = AgentLink()
        self._heartbeat = asyncio.Event()

    @property
    def counts(self) -> dict[str, int]:
        """What was left out."""
        return {**self._vehicle.counts, "flooded": self._link.flooded}

    def open(self, ctx: Context) -> None:
        """Raises MavlinkError where the package is missing."""
        try:
            from pymavlink.dialects.v20 import common
        except ImportError:
            raise MavlinkError("mavlink.telemetry needs pymavlink: pip install 'thalweg[edge]'") from None
        self._parser = common.MAVLink(None)
        self._parser.robust_parsing = True

    async def run(self, ctx: Context) -> None:
        """Until the pipeline ends."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._link.listen(ctx))
            if self._agent.there:
                group.create_task(self._tell_agent())
            while True:
                piece, _ = await self._link.pieces.get()
                for kind, fields, system, component in self._messages(piece):
                    heartbeats = self._vehicle.heartbeats
                    told = self._vehicle.hear(kind, fields, system, component, ctx.now_ns())
                    if self._vehicle.heartbeats != heartbeats:
                        self._heartbeat.set()
                    if told is not None:
                        await ctx.send(told[1], time=told[0])

    async def _tell_agent(self) -> None:
        """The newest heartbeat; an agent that is away is told with the next."""
        try:
            while True:
                await self._heartbeat.wait()
                self._heartbeat.clear()
                await self._agent.tell({"armed": self._vehicle.armed})
        finally:
            self._agent.close()

    def _messages(self, piece: bytes) -> list[tuple[str, dict[str, Any], int, int]]:
        found = []
        for message in self._parser.parse_buffer(piece) or ():
            kind = message.get_type()
            if kind == "BAD_DATA":
                self._vehicle.counts["garbage"] += 1
            elif kind in _WANTED:
                fields = {name: getattr(message, name) for name in message.fieldnames}
                found.append((kind.lower(), fields, message.get_srcSystem(), message.get_srcComponent()))
        return found
