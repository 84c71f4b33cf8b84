"""The end of a node's pipeline that leads to its hub: packets go into the node's spool, which outlives everything."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgpack
from pydantic import Field

from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.fleet.agent_socket import RATE
from thalweg.pipeline.fleet.telemetry import Telemetry
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Payload
from thalweg.pipeline.signal import Bitrate, Direction, by_stage
from thalweg.pipeline.stage import Context, Port
from thalweg.stages.fleet.agent_link import AgentLink
from thalweg.stages.fleet.limits import Setting, rungs_of
from thalweg.stages.fleet.on_demand import Demand
from thalweg.stages.fleet.plain import packet_plain

STATE_S = RATE_S = 1.0
NEWS_NS = 1_000_000_000


class UplinkError(ThalwegError):
    """The node's agent cannot be reached, or does not take something."""


class Uplink:
    """Hands packets to the node's agent, which stores them and sends them to the hub when there is a link.

    `events` are on the disk before the next packet is taken, `telemetry` within two seconds, `media` when the system
    writes them; `media` are evicted first where the disk is full. Packets that the agent does not take are counted,
    the first of a row is reported, and the pipeline goes on. While the agent restarts, the stage waits up to `patience`
    seconds; then packets are lost and counted. From telemetry the agent learns whether the vehicle is armed. For
    `media`, a `Bitrate` signal tells the stages upstream how much of the link is left, each time that has changed by a
    twentieth; an encoder follows it.

    With `on_demand` nothing is taken but while the hub asks for it: `thalweg hub video NODE`, where `commands.json` of
    the node allows `video`. Its two lines, `stage.parameter: value`, are what stages upstream are set to while it does
    not, and while it does. `unasked` counts what was not taken.
    """

    inputs = {"any": Port(Payload, many=True)}
    keeps = "what it is given, on this machine until the hub has it, and there"

    def __init__(
        self,
        kind: Annotated[
            Literal["events", "telemetry", "media"], Field(description="importance; media are evicted first")
        ] = "events",
        patience: Annotated[float, Field(ge=0, description="timeout for an agent that is away, seconds")] = 5.0,
        on_demand: Annotated[
            tuple[dict[str, Setting], ...],
            Field(
                min_length=2,
                max_length=2,
                description="only while the hub asks: settings upstream while it does not, and does",
            ),
        ] = (),
    ) -> None:
        self._kind = kind
        self._patience_s = patience
        self._agent = AgentLink()
        self._told_s = -float("inf")
        self._told_armed: bool | None = None
        self._asked_s = -float("inf")
        self._told_bps = 0
        self._refused = False
        self._demand = Demand(rungs_of(on_demand)) if on_demand else None
        self.counts = {"stored": 0, "lost": 0, "in_time": 0, "late": 0}

    @staticmethod
    def configures(arguments: Mapping[str, Any]) -> list[tuple[str, dict[str, object]]]:
        """What is set while the hub asks for it, and while it does not."""
        return [each for rung in rungs_of(arguments.get("on_demand", ())) for each in by_stage(rung).items()]

    async def open(self, ctx: Context) -> None:
        """Raises UplinkError where this is no node."""
        if not self._agent.there:
            raise UplinkError("fleet.uplink runs on a node: there is no agent here; `thalweg node run` starts one")
        if self._demand is not None:
            self.counts["unasked"] = 0
            self._demand.start(ctx)

    async def process(self, packet: Packet, ctx: Context) -> None:
        """Hand over one packet, and wait until it is stored."""
        if self._demand is not None and not self._demand.wanted(ctx):
            self.counts["unasked"] += 1
            return
        if packet.deadline is not None:
            self.counts["in_time" if ctx.now_ns() <= packet.deadline else "late"] += 1
        if isinstance(packet.payload, Telemetry):
            await self._tell_state(packet.payload, ctx.now_ns() - packet.time)
        record = msgpack.packb(packet_plain(packet))
        time_ns = time.time_ns() - max(0, ctx.now_ns() - packet.time)
        refusal = await self._agent.hand_over(self._kind, packet.stream, time_ns, record, self._patience_s)
        self.counts["lost" if refusal else "stored"] += 1
        if refusal and not self._refused:
            ctx.report(refusal)
        self._refused = bool(refusal)
        if self._kind == "media":
            await self._follow_rate(ctx)

    async def close(self) -> None:
        """Hang up."""
        if self._demand is not None:
            await self._demand.close()
        self._agent.close()

    async def _follow_rate(self, ctx: Context) -> None:
        now_s = time.monotonic()
        if now_s - self._asked_s < RATE_S:
            return
        self._asked_s = now_s
        said = await self._agent.hand_over("", RATE, 0, b"", 0.0)
        bps = int(said) if said.isdecimal() else 0  # else the agent is away, or does not know what that is
        if bps and abs(bps - self._told_bps) > self._told_bps / 20:
            self._told_bps = bps
            ctx.signal(Bitrate(origin=ctx.name, bitrate_bps=bps), Direction.UP)

    async def _tell_state(self, vehicle: Telemetry, age_ns: int) -> None:
        """How the vehicle is: when it arms or disarms, and once a second. Releases are tried while it is disarmed: that
        must not be old news.
        """
        now_s = time.monotonic()
        if now_s - self._told_s < STATE_S and vehicle.armed == self._told_armed:
            return
        self._told_s, self._told_armed = now_s, vehicle.armed
        state = {name: getattr(vehicle, name) for name in ("latitude", "longitude", "altitude_m", "battery")}
        if vehicle.armed or (vehicle.armed is False and age_ns < NEWS_NS):
            state["armed"] = vehicle.armed
        await self._agent.tell(state, self._patience_s)
