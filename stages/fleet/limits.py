"""`fleet.limits`: what a pipeline gives up while its machine is too hot, too busy or short of battery."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from thalweg.pipeline.duration import MS
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.fleet.limits import Bounds, Ladder, Move, Reading
from thalweg.pipeline.fleet.telemetry import Telemetry
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Payload
from thalweg.pipeline.signal import Configure, Direction, by_stage
from thalweg.pipeline.stage import Context, Port
from thalweg.stages.fleet.agent_link import AgentLink
from thalweg.stages.fleet.machine import Machine

log = logging.getLogger(__name__)

LOOK_NS = 2_000 * MS
Setting = str | int | float | bool


class LimitsError(ThalwegError):
    """A ladder that cannot be gone down and up again; says where."""


class Limits:
    """Monitors its machine every two seconds, and reconfigures the stages upstream when it is too hot, too busy or low.

    `ladder` has a rung a line, `stage.parameter: value` of parameters that may change while the pipeline runs. The
    first holds the normal settings. Each further rung reduces the load; a parameter that it does not name keeps the
    value of the rung before. Too hot or too busy: one rung down, and another one every ten seconds while that lasts.
    Battery below the nth share of `battery`: at least the nth rung. Critical heat: the last rung at once. After a
    minute well below every limit: one rung up (the table is in pipeline/fleet/limits.py).

    A rung can set parameters of stages that lead here; `thalweg validate` reports a rung that names another stage, or
    an invalid value. The only packets used are telemetry, for the battery level. To test a ladder, set `machine` to a
    folder of your own with `sys/class/thermal/thermal_zone0/temp`, in thousandths of a degree Celsius. `counts` has the
    steps down and up; on a node the hub shows the current rung.
    """

    inputs = {"any": Port(Payload, many=True)}

    def __init__(
        self,
        ladder: Annotated[
            tuple[dict[str, Setting], ...],
            Field(min_length=2, description="settings of each rung, the normal ones first"),
        ],
        heat: Annotated[float, Field(description="temperature from which it is too hot, °C")] = 80.0,
        critical: Annotated[float, Field(description="temperature from which the last rung applies, °C")] = 95.0,
        busy: Annotated[
            float, Field(gt=0, le=1, description="share of all processors above which it is too busy")
        ] = 0.95,
        battery: Annotated[
            tuple[float, ...], Field(description="battery levels 0…1, falling; below the nth, at least n rungs down")
        ] = (),
        machine: Annotated[str, Field(description="folder that contains `sys` and `proc`")] = "/",
    ) -> None:
        self._rungs = rungs_of(ladder)
        self._ladder = Ladder(len(ladder) - 1, Bounds(heat_c=heat, critical_c=critical, busy=busy, battery=battery))
        self._machine = Machine(Path(machine))
        self._battery: float | None = None
        self._agent = AgentLink()
        self._told: int | None = None
        self._next_ns: int | None = None
        self.counts = {"given_up": 0, "taken_up": 0}

    @staticmethod
    def configures(arguments: Mapping[str, Any]) -> list[tuple[str, dict[str, object]]]:
        """Everything that a rung sets."""
        return [each for rung in rungs_of(arguments["ladder"]) for each in by_stage(rung).items()]

    async def process(self, packet: Packet, ctx: Context) -> None:
        """Takes the battery level from telemetry. Any packet is accepted."""
        if isinstance(packet.payload, Telemetry) and packet.payload.battery is not None:
            self._battery = packet.payload.battery
        if self._next_ns is None:
            self._send({}, 0, ctx)
            self._look(ctx)
        if self._agent.there and self._told != self._ladder.rung:
            self._told = self._ladder.rung
            await self._agent.tell({"rung": self._told})

    def wake(self, ctx: Context) -> None:
        """Two seconds have passed."""
        self._look(ctx)

    def close(self) -> None:
        """Hang up."""
        self._agent.close()

    def _look(self, ctx: Context) -> None:
        self._next_ns = ctx.now_ns() + LOOK_NS
        ctx.wake_at(self._next_ns)
        before = self._ladder.rung
        battery = self._machine.battery() if self._battery is None else self._battery
        reading = Reading(heat_c=self._machine.heat_c(), busy=self._machine.busy(), battery=battery)
        move = self._ladder.look(ctx.now_ns(), reading)
        if move is not None:
            self._move(before, move, ctx)

    def _move(self, before: int, move: Move, ctx: Context) -> None:
        log.warning("%s: rung %d of %d: %s", ctx.name, move.rung, self._ladder.last, move.reason)
        self.counts["given_up" if move.rung > before else "taken_up"] += abs(move.rung - before)
        self._send(self._rungs[before], move.rung, ctx)

    def _send(self, before: Mapping[str, Setting], rung: int, ctx: Context) -> None:
        changed = {name: value for name, value in self._rungs[rung].items() if before.get(name) != value}
        for stage, settings in by_stage(changed).items():
            ctx.signal(Configure(origin=ctx.name, stage=stage, settings=settings), Direction.UP)


def rungs_of(ladder: Sequence[Mapping[str, Setting]]) -> list[dict[str, Setting]]:
    """Everything that each rung sets. Raises LimitsError where something could not be set, or not be set back."""
    rungs: list[dict[str, Setting]] = []
    for number, lines in enumerate(ladder):
        for name in lines:
            stage, _, parameter = name.rpartition(".")
            if not stage or not parameter:
                raise LimitsError(f"rung {number} sets {name!r}, expected stage.parameter")
            if rungs and name not in rungs[0]:
                raise LimitsError(
                    f"rung {number} sets {name}, which the first line does not: nothing would set it back"
                )
        rungs.append({**(rungs[-1] if rungs else {}), **lines})
    return rungs
