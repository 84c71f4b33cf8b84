"""Choosing a configuration per sample: the best one that a profile of this device says will be in time.

Theory of operation. Stages declare what about them can be chosen, as knobs of a few kinds; a combination gives every
knob a value. A `Profile` holds, for each combination, how often it is right and how long it takes at several
slow-downs of the device. An `Optimizer` asks for the latency of all combinations at the slow-down of this moment
(between profiled ones it goes straight, beyond the last one it goes on in proportion), keeps those within the budget
and takes the one with the highest expected accuracy. A sample that has begun with another stays with it as long as
that is in time (`stay`). How slow the device is by now is measured by `SlowDown` on the very units that are being
encoded.

Everything is arrays of one entry per combination: hundreds of them take tens of microseconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.pipeline.errors import ThalwegError

Array = NDArray[np.float64]


class ConfigureError(ThalwegError):
    """A profile that cannot be used."""


VERSION = 2
"""Of the form that profiles are written in. Since 2 samples begin with the combination that is measured."""


class Kind(Enum):
    """What a knob turns: the one vocabulary in which stages declare what about them can be chosen."""

    MODEL_SIZE = "model size"
    UNIT_LENGTH = "unit length"
    FRAME_RATE = "frame rate"
    RESOLUTION = "resolution"
    LOOK_AHEAD = "look-ahead"
    PRECISION = "precision"


@dataclass(frozen=True, slots=True)
class Knob:
    """One thing to choose, `stage.parameter`. `modality`: which sense it belongs to, if any."""

    name: str
    kind: Kind
    values: tuple[str, ...]
    modality: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A combination as profiled. `latency_ms`: the chosen quantile at each slow-down of the profile."""

    settings: Mapping[str, str]
    accuracy: float
    latency_ms: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What was measured. `slow_downs`: factors, growing from 1; `unit_ms`: what a unit takes at 1, see `unit_key`.

    `fingerprint`: of the hardware; `made`: the date. Raises ConfigureError where the parts do not fit together.
    """

    pipeline: str
    made: str
    fingerprint: Mapping[str, str]
    knobs: tuple[Knob, ...]
    slow_downs: tuple[float, ...]
    unit_ms: Mapping[str, float]
    rows: tuple[Row, ...]

    def __post_init__(self) -> None:
        if not self.rows:
            raise ConfigureError("the profile has no combinations")
        if not self.slow_downs or list(self.slow_downs) != sorted(set(self.slow_downs)):
            raise ConfigureError(f"slow-downs are {self.slow_downs}, expected growing factors")
        names = {knob.name for knob in self.knobs}
        for row in self.rows:
            if set(row.settings) != names or len(row.latency_ms) != len(self.slow_downs):
                raise ConfigureError(f"a row sets {sorted(row.settings)}, the knobs are {sorted(names)}")
            if not all(np.isfinite(row.latency_ms)) or not 0 <= row.accuracy <= 1:
                raise ConfigureError(f"a row has accuracy {row.accuracy} and latencies {row.latency_ms}")

    def foreign(self, fingerprint: Mapping[str, str]) -> list[str]:
        """In what this profile's hardware differs from another; empty where it does not."""
        keys = sorted(set(self.fingerprint) | set(fingerprint))
        pairs = ((key, self.fingerprint.get(key, "unknown"), fingerprint.get(key, "unknown")) for key in keys)
        return [f"{key}: profiled on {theirs}, this is {ours}" for key, theirs, ours in pairs if theirs != ours]

    def plain(self) -> dict[str, Any]:
        """As JSON types; `profile_from` reads it."""
        return {
            "profile": VERSION,
            "pipeline": self.pipeline,
            "made": self.made,
            "fingerprint": dict(self.fingerprint),
            "knobs": [
                {"name": k.name, "kind": k.kind.value, "values": list(k.values), "modality": k.modality}
                for k in self.knobs
            ],
            "slow_downs": list(self.slow_downs),
            "unit_ms": dict(self.unit_ms),
            "rows": [
                {"settings": dict(r.settings), "accuracy": r.accuracy, "latency_ms": list(r.latency_ms)}
                for r in self.rows
            ],
        }


def unit_key(modality: str, size: str, values: int) -> str:
    """What `Profile.unit_ms` calls units of so many values in that encoder: `audio:s:640`."""
    return f"{modality}:{size}:{values}"


def profile_from(plain: Mapping[str, Any]) -> Profile:
    """The profile. Raises ConfigureError on anything that `Profile.plain` would not have written."""
    try:
        if plain["profile"] != VERSION:
            raise ConfigureError(f"the profile is of version {plain['profile']!r}, this reads version {VERSION}")
        return Profile(
            pipeline=str(plain["pipeline"]),
            made=str(plain["made"]),
            fingerprint={str(k): str(v) for k, v in plain["fingerprint"].items()},
            knobs=tuple(
                Knob(k["name"], Kind(k["kind"]), tuple(map(str, k["values"])), k.get("modality", ""))
                for k in plain["knobs"]
            ),
            slow_downs=tuple(map(float, plain["slow_downs"])),
            unit_ms={str(k): float(v) for k, v in plain["unit_ms"].items()},
            rows=tuple(
                Row(
                    {str(k): str(v) for k, v in r["settings"].items()},
                    float(r["accuracy"]),
                    tuple(map(float, r["latency_ms"])),
                )
                for r in plain["rows"]
            ),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigureError(f"this is no profile: {error!r}") from None


class SlowDown:
    """How much slower than profiled the device is by now, from what units cost.

    The median of the last `window` ratios, or the smaller of the newest two if that is more: load that comes is
    believed at once, load that goes only after a while, because being late costs more than being careful.
    """

    def __init__(self, unit_ms: Mapping[str, float], window: int = 16) -> None:
        self._unit_ms = unit_ms
        self._ratios: deque[float] = deque(maxlen=window)

    def observe(self, what: str, cost_ms: float) -> None:
        """A unit took `cost_ms` in the encoder `what`; one that was not profiled is ignored."""
        profiled_ms = self._unit_ms.get(what)
        if profiled_ms and cost_ms > 0:
            self._ratios.append(cost_ms / profiled_ms)

    @property
    def factor(self) -> float:
        """1 is as profiled; never below, since a profile's quantiles are no promise of more."""
        if not self._ratios:
            return 1.0
        return max(1.0, median(self._ratios), min(self._ratios[-1], self._ratios[-2 if len(self._ratios) > 1 else -1]))


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen. `why`: empty where the request could be met, else what stands in its way."""

    settings: Mapping[str, str]
    latency_ms: float
    accuracy: float
    why: str = ""

    @property
    def feasible(self) -> bool:
        """Whether the request could be met; if not, this is the fastest combination allowed."""
        return not self.why


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is wanted. `only`: values that a knob is held to; `accuracy`: the least that is expected, 0…1.

    `margin`: the share of the budget that is kept free, because the slow-down is an estimate from a few units. 0.1
    costs little accuracy; without it one sample in twenty is late by a few per cent.
    """

    budget_ms: float
    margin: float = 0.0
    only: Mapping[str, tuple[str, ...]] | None = None
    accuracy: float = 0.0


Predict = Callable[[Any], NDArray[Any]]
"""First units of a sample → expected accuracy of each row."""


class Optimizer:
    """Chooses among the rows of one profile; any number of knobs and combinations."""

    def __init__(self, profile: Profile, predict: Predict | None = None) -> None:
        self.profile = profile
        self._predict = predict
        self._latency = np.array([row.latency_ms for row in profile.rows])  # [row, slow-down]
        self._accuracy = np.array([row.accuracy for row in profile.rows])
        self._slow_downs = np.array(profile.slow_downs)
        self._index = {frozenset(row.settings.items()): i for i, row in enumerate(profile.rows)}

    def latencies(self, slow_down: float) -> Array:
        """Expected latency of every row, ms, at a slow-down."""
        factors, table = self._slow_downs, self._latency
        at = int(np.searchsorted(factors, slow_down))
        if at == 0:
            return np.asarray(table[:, 0])
        if at == len(factors):
            return np.asarray(table[:, -1] * (slow_down / factors[-1]))
        share = (slow_down - factors[at - 1]) / (factors[at] - factors[at - 1])
        return np.asarray(table[:, at - 1] + share * (table[:, at] - table[:, at - 1]))

    def choose(self, request: Request, slow_down: float = 1.0, first: Any = None) -> Choice:
        """The best combination for one sample. `first`: what `predict` takes."""
        latency = self.latencies(slow_down)
        accuracy = self._accuracy
        if self._predict is not None and first is not None:
            accuracy = np.asarray(self._predict(first), np.float64)
        allowed = self._allowed(request)
        in_time = latency <= request.budget_ms * (1 - request.margin)
        good = accuracy >= request.accuracy
        fits = allowed & in_time & good
        if fits.any():
            best = int(np.where(fits, accuracy - 1e-6 * latency, -np.inf).argmax())
            return Choice(self.profile.rows[best].settings, float(latency[best]), float(accuracy[best]))
        pool = allowed if allowed.any() else np.ones_like(allowed)
        fastest = int(np.where(pool, latency, np.inf).argmin())
        why = self._why(request, slow_down, allowed, in_time, good)
        return Choice(self.profile.rows[fastest].settings, float(latency[fastest]), float(accuracy[fastest]), why)

    def stay(self, begun: Mapping[str, str], request: Request, slow_down: float = 1.0) -> Choice:
        """As `choose`, for a sample that has begun with the combination `begun`: that, while it is within the budget.

        The margin is there to be used up; a change within a sample costs accuracy.
        """
        at = self._index.get(frozenset(begun.items()))
        if at is not None:
            latency_ms, accuracy = float(self.latencies(slow_down)[at]), float(self._accuracy[at])
            if self._allowed(request)[at] and latency_ms <= request.budget_ms and accuracy >= request.accuracy:
                return Choice(self.profile.rows[at].settings, latency_ms, accuracy)
        return self.choose(request, slow_down)

    def _allowed(self, request: Request) -> NDArray[np.bool_]:
        allowed = np.ones(len(self._accuracy), bool)
        for knob, values in (request.only or {}).items():
            allowed &= np.array([row.settings.get(knob) in values for row in self.profile.rows])
        return allowed

    def _why(
        self,
        request: Request,
        slow_down: float,
        allowed: NDArray[np.bool_],
        in_time: NDArray[np.bool_],
        good: NDArray[np.bool_],
    ) -> str:
        """Which constraint, if it alone were dropped, would let something through."""
        if not allowed.any():
            return f"no profiled combination has {_said(request.only or {})}"
        reasons = []
        idle_in_time = self.latencies(1.0) <= request.budget_ms
        fastest = float(self.latencies(slow_down)[allowed].min())
        if (allowed & good).any():
            reasons.append(f"the budget of {request.budget_ms:.0f} ms: the fastest takes {fastest:.0f} ms")
        if slow_down > 1 and (allowed & good & idle_in_time).any():
            reasons.append(f"the load: the device is {slow_down:.1f} times slower than profiled")
        if (in_time & good).any():
            reasons.append(f"the restriction to {_said(request.only or {})}")
        if request.accuracy > 0 and (allowed & in_time).any():
            reasons.append(f"the accuracy of {request.accuracy:.0%}")
        return "infeasible because of " + "; or ".join(reasons or ["every constraint together"])


def pareto(rows: Sequence[Row], slow_down: int = 0) -> list[Row]:
    """The rows that no other beats in both latency and accuracy, fastest first."""
    front: list[Row] = []
    for row in sorted(rows, key=lambda r: (r.latency_ms[slow_down], -r.accuracy)):
        if not front or row.accuracy > front[-1].accuracy:
            front.append(row)
    return front


def _said(only: Mapping[str, tuple[str, ...]]) -> str:
    return ", ".join(f"{knob}={'/'.join(values)}" for knob, values in only.items())
