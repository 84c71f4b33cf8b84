"""Which backend answers a turn, and why: filters that leave no choice, then quality against cost.

A backend is out where words may not go there, its breaker is open, it cannot do what is asked, its answer would cost
more than is left, or its first clause would come too late (`in_time` below `SURE`). Among the others the best expected
quality, less what its cost is worth, wins. One that is `LIKELY` in time counts as sure where another that is sure by
itself may be asked beside it in time; that one then stands second. Where none is left the reasons are said, and the
least bad of those that are only late answers: late beats silent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from thalweg.pipeline.handoff.privacy import Zone

SURE = 0.95
LIKELY = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A backend as it stands when a turn begins. `quality`: the share of such questions that it is expected to answer
    well, 0…1. `in_time`: the share of answers whose first clause is in time. `first_ms`: when its first token is
    expected. `closed`: why it may not be asked, empty where it may.
    """

    name: str
    where: Zone
    quality: float = 0.5
    cost: float = 0.0
    in_time: float = 1.0
    first_ms: float = 0.0
    closed: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutePolicy:
    """`prefer`: what decides among backends that are in time. `quality_per_cost`: what one unit of cost must bring.
    `hedged_by`: whether the second may be asked beside the first and would be in time; None: hedging is off. `first`:
    the backend that answers whenever it may be asked, in time or not.
    """

    prefer: str = "quality"
    quality_per_cost: float = 0.002
    budget_left: float | None = None
    first: str = ""
    hedged_by: Callable[[str, str], bool] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What was decided for a turn. `order`: the one that answers, then those that may take over. `out`: name → why not.

    `confidence`: the share of turns in which the first clause of the chosen one is in time.
    """

    order: tuple[str, ...]
    reason: str
    expected_first_ms: float
    cost: float
    confidence: float
    out: tuple[tuple[str, str], ...] = ()

    @property
    def chosen(self) -> str:
        """The backend that answers; empty where there is none."""
        return self.order[0] if self.order else ""


def choose(candidates: Sequence[Candidate], policy: RoutePolicy, zone: Zone) -> Route:
    """The route of a turn whose words may go as far as `zone`."""
    out: list[tuple[str, str]] = []
    able: list[Candidate] = []
    for candidate in candidates:
        reason = _why_not(candidate, policy, zone)
        if reason:
            out.append((candidate.name, reason))
        else:
            able.append(candidate)
    helpers = {candidate.name: _helper(candidate, able, policy) for candidate in able}
    timely = [candidate for candidate in able if candidate.in_time >= SURE or helpers[candidate.name]]
    late = [candidate for candidate in able if candidate not in timely]
    ranked = sorted(timely, key=lambda c: (-_worth(c, policy), c.cost, c.first_ms))
    ranked += sorted(late, key=lambda c: (-c.in_time, c.first_ms))
    ranked.sort(key=lambda c: c.name != policy.first)
    if not ranked:
        return Route(
            order=(),
            reason="; ".join(f"{name}: {why}" for name, why in out) or "there is no backend",
            expected_first_ms=0.0,
            cost=0.0,
            confidence=0.0,
            out=tuple(out),
        )
    best, helper = ranked[0], helpers[ranked[0].name]
    reason = _reason(best, timely, policy)
    if helper is not None:
        ranked = [best, helper, *(candidate for candidate in ranked[1:] if candidate is not helper)]
        reason += f", if need be with {helper.name} beside it"
    return Route(
        order=tuple(candidate.name for candidate in ranked),
        reason=reason,
        expected_first_ms=best.first_ms,
        cost=best.cost,
        confidence=best.in_time if helper is None else 1 - (1 - best.in_time) * (1 - helper.in_time),
        out=tuple(out),
    )


def _helper(candidate: Candidate, able: Sequence[Candidate], policy: RoutePolicy) -> Candidate | None:
    """Who makes a backend sure that is only likely to be in time: the soonest of those that can."""
    if policy.hedged_by is None or not LIKELY <= candidate.in_time < SURE:
        return None
    others = [other for other in able if other.in_time >= SURE and policy.hedged_by(candidate.name, other.name)]
    return min(others, key=lambda other: other.first_ms, default=None)


def _why_not(candidate: Candidate, policy: RoutePolicy, zone: Zone) -> str:
    if candidate.where > zone:
        return f"words may not leave the {zone.name.lower()}"
    if candidate.closed:
        return candidate.closed
    if policy.budget_left is not None and candidate.cost > policy.budget_left:
        return f"it costs {candidate.cost:g}, and {policy.budget_left:g} are left"
    return ""


def _worth(candidate: Candidate, policy: RoutePolicy) -> float:
    if policy.prefer == "cost":
        return -candidate.cost
    if policy.prefer == "latency":
        return -candidate.first_ms
    return candidate.quality - candidate.cost * policy.quality_per_cost


def _reason(best: Candidate, timely: Sequence[Candidate], policy: RoutePolicy) -> str:
    if best.name == policy.first:
        return f"{best.name} was asked for"
    if not timely:
        return f"none is sure to be in time; {best.name} is likeliest ({best.in_time:.0%})"
    if len(timely) == 1:
        return f"only {best.name} is in time"
    return f"best {policy.prefer} of {len(timely)} that are in time"
