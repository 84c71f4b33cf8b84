"""A reply of a pool under way, and what there is to tell of it in the end."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from thalweg.models.language.backend import ErrorKind, Reason, Request
from thalweg.pipeline.handoff.answering import Answering
from thalweg.pipeline.handoff.router import Route
from thalweg.pipeline.payload import Routed
from thalweg.stages.language.pool.member import Streams

SURE_ENOUGH = "was sure enough"


@dataclass(slots=True)
class Asked:
    """A reply under way: the question, who decides, who is asked, what it costs, and what went wrong so far.

    `first`: who is asked first whether it is sure, until it has been; `note`: what came of that.
    """

    request: Request
    route: Route
    answering: Answering
    began_s: float
    first_s: float | None = None
    cost: float = 0.0
    first: str = ""
    note: str = ""
    streams: Streams = field(default_factory=Streams)
    errors: list[ErrorKind] = field(default_factory=list)
    reason: Reason = Reason.STOP

    def kind(self) -> ErrorKind:
        """What went wrong, all in all."""
        if len(self.answering.said) > len(self.answering.begun):
            return ErrorKind.BROKE_OFF
        if ErrorKind.NOBODY in self.errors:
            return ErrorKind.NOBODY  # when the question is over, others may be asked
        if ErrorKind.TOO_LONG in self.errors:
            return ErrorKind.TOO_LONG  # with less of the conversation at least that one would answer
        return self.errors[0] if len(set(self.errors)) == 1 else ErrorKind.UNREACHABLE

    def now(self) -> Request:
        """The request as it stands: no trial any more once the question was over."""
        return replace(self.request, trial=self.request.trial and not self.request.accepted())

    @property
    def taken(self) -> bool:
        """Whether one that costs less has answered alone, since it was sure: the chosen one was not asked."""
        alone = not (self.answering.switches or self.answering.hedges or self.request.trial)
        return alone and self.note.endswith(SURE_ENOUGH) and self.answering.speaker != self.route.chosen

    def routed(self) -> Routed:
        """What became of its route."""
        return replace(
            routed(self.route),
            reason=self.route.reason + self.note,
            backend=self.answering.speaker,
            first_ms=None if self.first_s is None else 1e3 * (self.first_s - self.began_s),
            cost=self.cost,
            switches=self.answering.switches,
            hedges=self.answering.hedges,
        )


def routed(route: Route) -> Routed:
    """A report on a route that has not been taken: no backend was asked."""
    return Routed(
        backend="",
        chosen=route.chosen,
        reason=route.reason,
        expected_ms=route.expected_first_ms,
        first_ms=None,
        cost=0.0,
        confidence=route.confidence,
        out=dict(route.out),
    )
