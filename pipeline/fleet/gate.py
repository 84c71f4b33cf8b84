"""Whether a pipeline that was just started works: it opens, and then puts something out, without a restart.

Theory of operation. "The process is up" says nothing: one that hangs is up. So a trial looks at what comes out.

    state    seen                                                    next
    OPENING  ready                                                   WATCHED
    OPENING  `open_ns` are over                                      FAILED
    WATCHED  an output that has given nothing new for `silence_ns`   FAILED
    WATCHED  more misses of deadlines than `missed`, at the end      FAILED
    WATCHED  `watch_ns` are over                                     PASSED
    any      it ended, a worker was restarted, or no answer for `answer_ns`        FAILED

Time is an argument, ns of any one clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_S = 1_000_000_000
FEWEST_DEADLINES = 20
"""A share of fewer says nothing."""


def leads_out(use: str) -> bool:
    """Whether what a stage of this use takes has come out of the pipeline."""
    return use.startswith(("sink.", "fleet.uplink"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What a release asks of its trial. `outputs`: names that must flow; empty: all there are. `missed`: the largest
    share 0…1 of missed deadlines.
    """

    open_ns: int = 15 * _S
    watch_ns: int = 30 * _S
    silence_ns: int = 10 * _S
    answer_ns: int = 6 * _S
    outputs: tuple[str, ...] = ()
    missed: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """How it looks at a moment. `ended`: why it is over, if it is. `outputs`: name → how many so far. `made`, `missed`:
    results that had a deadline, so far.
    """

    ready: bool
    ended: str = ""
    restarts: int = 0
    outputs: Mapping[str, int] = field(default_factory=dict)
    made: int = 0
    missed: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a trial ended; `reason` is empty where it passed."""

    reason: str = ""

    @property
    def passed(self) -> bool:
        """Whether it may stay."""
        return not self.reason


class Trial:
    """One trial, from the moment the pipeline was started."""

    def __init__(self, gate: Gate, now_ns: int) -> None:
        self.gate = gate
        self._began_ns = self._answered_ns = now_ns
        self._ready_ns: int | None = None
        self._seen: dict[str, tuple[int, int]] = {}

    def see(self, now_ns: int, sight: Sight | None) -> Verdict | None:
        """Look; None: `sight` could not be had. Returns the verdict once there is one."""
        if sight is None:
            silent_ns = now_ns - self._answered_ns
            if self._ready_ns is None:
                return self._still_opening(now_ns)
            return Verdict(f"it did not answer for {silent_ns / _S:.0f} s") if silent_ns > self.gate.answer_ns else None
        self._answered_ns = now_ns
        if sight.ended:
            return Verdict(f"it ended: {sight.ended}")
        if sight.restarts:
            return Verdict(f"its workers were restarted {sight.restarts} time(s)")
        if not sight.ready:
            return self._still_opening(now_ns)
        if self._ready_ns is None:
            self._ready_ns = now_ns
            self._seen = dict.fromkeys(self.gate.outputs, (0, now_ns))
        return self._watched(now_ns, self._ready_ns, sight)

    def _still_opening(self, now_ns: int) -> Verdict | None:
        if now_ns - self._began_ns <= self.gate.open_ns:
            return None
        return Verdict(f"it was not ready within {self.gate.open_ns / _S:.0f} s")

    def _watched(self, now_ns: int, ready_ns: int, sight: Sight) -> Verdict | None:
        for name in self.gate.outputs or sight.outputs:
            count, since_ns = self._seen.get(name, (0, ready_ns))
            if sight.outputs.get(name, 0) > count:
                self._seen[name] = sight.outputs[name], now_ns
            elif now_ns - since_ns > self.gate.silence_ns:
                return Verdict(f"output {name} has given nothing for {self.gate.silence_ns / _S:.0f} s")
        if now_ns - ready_ns < self.gate.watch_ns:
            return None
        if not any(count for count, _ in self._seen.values()):
            return Verdict("nothing has come out of it")
        if sight.made >= FEWEST_DEADLINES and sight.missed > self.gate.missed * sight.made:
            return Verdict(f"it missed {sight.missed} of {sight.made} deadlines, at most {self.gate.missed:.0%} may be")
        return Verdict()
