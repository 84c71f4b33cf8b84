"""How much of a pipeline its machine can bear: a ladder of rungs, each of which gives up more than the one before.

Theory of operation. On rung 0 everything runs. Heat and the processor are regulated: while one is over its limit the
ladder goes down a rung at a time, with a pause after each, since it takes a while until less work shows. The battery
is no regulation, for no rung charges it: below each of its thresholds a rung is the least that is given up.

    seen                                                              next rung
    heat at `critical_c` or above                                     the last one, at once
    battery below its nth threshold                                   n at least, at once
    heat or processor over its limit, `step_ns` since the last move   one further down
    any of them near its limit, or not to be read any more            the same
    none of them near for `calm_ns`                                   one further up; never above the battery's

Near is within the slack of each, so that a machine at its limit settles on a rung instead of going up and down. What
could be read once and cannot any more keeps the rung: a sensor may have failed of the heat. Time is an argument.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from thalweg.pipeline.errors import ThalwegError

_S = 1_000_000_000
HEAT_SLACK_C: Final = 5.0
BUSY_SLACK: Final = 0.15
BATTERY_SLACK: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the machine shows. `heat_c`: °C; `busy`: of all its processors, `battery`: what is left, both 0…1. None:
    not to be read.
    """

    heat_c: float | None = None
    busy: float | None = None
    battery: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """See the table above. `battery`: thresholds, falling. Raises ThalwegError where they are out of order."""

    heat_c: float = 80.0
    critical_c: float = 95.0
    busy: float = 0.95
    battery: tuple[float, ...] = ()
    step_ns: int = 10 * _S
    calm_ns: int = 60 * _S

    def __post_init__(self) -> None:
        if not self.heat_c < self.critical_c:
            raise ThalwegError(f"a limit of {self.heat_c:g} °C is not below the critical {self.critical_c:g} °C")
        if list(self.battery) != sorted(set(self.battery), reverse=True) or not all(0 < b < 1 for b in self.battery):
            raise ThalwegError(f"thresholds of the battery are {self.battery}, expected falling shares between 0 and 1")


@dataclass(frozen=True, slots=True)
class Move:
    """Go to this rung; `reason` is for people."""

    rung: int
    reason: str


class Ladder:
    """`rung`: 0 is everything, `last` the least. Moves by what `look` is shown."""

    def __init__(self, last: int, bounds: Bounds) -> None:
        self.last = last
        self.bounds = bounds
        self.rung = 0
        self._floor = 0
        self._moved_ns: int | None = None
        self._calm_since_ns: int | None = None
        self._read: set[str] = set()

    def look(self, now_ns: int, reading: Reading) -> Move | None:
        """Look at the machine. Readings that are not finite count as not to be read."""
        heat_c, busy = _finite(reading.heat_c), _finite(reading.busy)
        gone = self._gone(heat_c, busy)
        battery = self._battery(_finite(reading.battery))
        if heat_c is not None and heat_c >= self.bounds.critical_c and self.rung < self.last:
            return self._go(now_ns, self.last, f"{heat_c:.0f} °C, critical from {self.bounds.critical_c:.0f} °C on")
        if battery:
            return self._go(now_ns, self._floor, battery)
        over = self._over(heat_c, busy)
        if over:
            self._calm_since_ns = None
            paused = self._moved_ns is None or now_ns - self._moved_ns >= self.bounds.step_ns
            return self._go(now_ns, self.rung + 1, over) if paused and self.rung < self.last else None
        if gone or self._near(heat_c, busy):
            self._calm_since_ns = None
            return None
        if self._calm_since_ns is None:
            self._calm_since_ns = now_ns
        if self.rung > self._floor and now_ns - self._calm_since_ns >= self.bounds.calm_ns:
            return self._go(now_ns, self.rung - 1, f"calm for {self.bounds.calm_ns / _S:.0f} s")
        return None

    def _battery(self, left: float | None) -> str:
        """Set the floor; why it is below the rung now, or nothing."""
        if left is None:
            return ""
        floors = [n for n, threshold in enumerate(self.bounds.battery, 1) if left < threshold]
        kept = [n for n, threshold in enumerate(self.bounds.battery, 1) if left < threshold + BATTERY_SLACK]
        floor, held = max(floors, default=0), max(kept, default=0)
        self._floor = min(self.last, max(floor, min(self._floor, held)))
        return f"battery at {100 * left:.0f} %" if self._floor > self.rung else ""

    def _over(self, heat_c: float | None, busy: float | None) -> str:
        if heat_c is not None and heat_c > self.bounds.heat_c:
            return f"{heat_c:.0f} °C, over {self.bounds.heat_c:.0f} °C"
        if busy is not None and busy > self.bounds.busy:
            return f"processor {100 * busy:.0f} % busy, over {100 * self.bounds.busy:.0f} %"
        return ""

    def _near(self, heat_c: float | None, busy: float | None) -> bool:
        near_heat = heat_c is not None and heat_c > self.bounds.heat_c - HEAT_SLACK_C
        return near_heat or (busy is not None and busy > self.bounds.busy - BUSY_SLACK)

    def _gone(self, heat_c: float | None, busy: float | None) -> bool:
        """Whether something could be read before and cannot be now."""
        there = {name for name, value in (("heat", heat_c), ("busy", busy)) if value is not None}
        self._read |= there
        return self._read != there

    def _go(self, now_ns: int, rung: int, reason: str) -> Move:
        self.rung, self._moved_ns, self._calm_since_ns = rung, now_ns, None
        return Move(rung, reason)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
