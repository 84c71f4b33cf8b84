"""OpenTelemetry spans: one trace per turn, across workers. Instruments only; providers are the user's to configure.

Theory of operation. A turn is an epoch. The stage that first emits something of an epoch begins the root span
`turn`, at the capture time of that packet; every stage that works on the turn, in any worker, has one span in it, from
its first unit to its last: units are too many (fifty a second and stage for audio) to have one each.

    packet.trace           W3C traceparent of the span of the stage that emitted it, so that
    parent of a span       is the span of the stage whose packet was the first of the turn to arrive
    parent of a root       none, or the span that put the conversation here (`belongs_to`)

Nothing says when a stage has done its last unit of a turn. It has when it has been quiet for `QUIET_NS`; its span
then ends at the moment of that last unit, and a signal upstream tells the worker of the root. A root ends, at the
latest moment it heard of, when nothing was heard for `ROOT_QUIET_NS`, or with its worker.

Where no provider was configured there is no `TurnSpans`, and the worker tests one attribute for None per unit.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from thalweg import __version__
from thalweg.pipeline.packet import AMBIENT
from thalweg.pipeline.signal import Interrupt, Settled, Signal

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from thalweg.pipeline.joins.join import PacketSet
    from thalweg.pipeline.node import Node
    from thalweg.pipeline.packet import Packet

QUIET_NS = 2_000_000_000
ROOT_QUIET_NS = 30_000_000_000
FLUSH_S = 2.0
OPEN_AT_MOST = 4096
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


@dataclass(slots=True)
class _Open:
    """A span that is under way. Times are ns of the pipeline's clock."""

    span: Span
    traceparent: str
    last_ns: int
    at_work: bool = False
    units: int = 0
    emitted: int = 0
    busy_ns: int = 0
    attributes: dict[str, Any] = field(default_factory=dict)


class TurnSpans:
    """The spans of one worker. `now_ns`: the pipeline's clock. `tell`: sends a signal upstream from a stage.

    Stages may emit from any thread, so everything here is guarded by one lock. `belongs_to`: a traceparent, and further
    attributes of roots, for turns that begin from now on.
    """

    def __init__(
        self, tracer: Any, worker: str, pipeline: str, now_ns: Callable[[], int], tell: Callable[[str, Settled], None]
    ) -> None:
        self._tracer = tracer
        self._common = {"thalweg.worker": worker, "thalweg.pipeline": pipeline}
        self._now_ns = now_ns
        self._tell = tell
        self._unix_ns = time.time_ns() - now_ns()
        self._stages: dict[tuple[str, int], _Open] = {}
        self._roots: dict[int, _Open] = {}
        self._lock = threading.Lock()
        self.belongs_to: tuple[str, dict[str, str]] = "", {}

    def begin(self, node: Node, packet: Packet | PacketSet, now_ns: int) -> None:
        """`node` takes a packet of a turn in hand."""
        with self._lock:
            opened = self._stages.get((node.name, packet.epoch))
            if opened is None:
                opened = self._open_stage(node, packet.epoch, packet.trace, now_ns, packet.time)
            opened.at_work = True

    def end(self, node: Node, epoch: int, start_ns: int, end_ns: int) -> None:
        """It has worked on it."""
        with self._lock:
            opened = self._stages.get((node.name, epoch))
            if opened is not None:
                opened.at_work = False
                opened.units += 1
                opened.busy_ns += end_ns - start_ns
                opened.last_ns = end_ns

    def stamp(self, node: Node, epoch: int, cause: str | None, time_ns: int) -> str | None:
        """The `trace` of a packet that `node` emits because of one whose `trace` was `cause`."""
        if epoch == AMBIENT:
            return cause
        now_ns = self._now_ns()
        with self._lock:
            opened = self._stages.get((node.name, epoch))
            if opened is None:
                opened = self._open_stage(node, epoch, cause, min(time_ns, now_ns), time_ns)
            opened.emitted += 1
            opened.last_ns = max(opened.last_ns, now_ns)
            return opened.traceparent

    def fail(self, stage: str, epoch: int, message: str) -> None:
        """The stage could not do its part."""
        from opentelemetry.trace import Status, StatusCode

        with self._lock:
            opened = self._stages.get((stage, epoch))
            if opened is not None:
                opened.span.set_status(Status(StatusCode.ERROR, message))
                opened.span.add_event("failure", {"message": message}, self._unix_ns + self._now_ns())

    def hear(self, signal: Signal) -> None:
        """A signal came past."""
        if isinstance(signal, Interrupt):
            self._interrupted(signal.epoch)
        elif isinstance(signal, Settled):
            self._settled(signal)

    def _interrupted(self, epoch: int) -> None:
        with self._lock:
            for (_, of), opened in self._stages.items():
                if of < epoch:
                    opened.attributes["thalweg.interrupted"] = True
            for of, root in self._roots.items():
                if of < epoch:
                    root.attributes["thalweg.interrupted"] = True

    def _settled(self, signal: Settled) -> None:
        with self._lock:
            root = self._roots.get(signal.epoch)
            if root is not None:
                root.last_ns = max(root.last_ns, signal.unix_ns - self._unix_ns)

    def settle(self, now_ns: int) -> None:
        """End what has been quiet for long enough."""
        with self._lock:
            quiet = [key for key, s in self._stages.items() if not s.at_work and now_ns - s.last_ns > QUIET_NS]
            told = [self._end_stage(key) for key in quiet]
            working = {epoch for _, epoch in self._stages}
            for epoch in [e for e, r in self._roots.items() if now_ns - r.last_ns > ROOT_QUIET_NS]:
                if epoch not in working:
                    self._end(self._roots.pop(epoch))
        for stage, signal in told:
            self._tell(stage, signal)

    def close(self) -> None:
        """End everything: the worker has."""
        with self._lock:
            for key in list(self._stages):
                _, signal = self._end_stage(key)
                if signal.epoch in self._roots:
                    root = self._roots[signal.epoch]
                    root.last_ns = max(root.last_ns, signal.unix_ns - self._unix_ns)
            for epoch in list(self._roots):
                self._end(self._roots.pop(epoch))

    def _open_stage(self, node: Node, epoch: int, cause: str | None, start_ns: int, time_ns: int) -> _Open:
        parent = context_of(cause)
        if parent is None:
            parent = context_of(self._root(epoch, time_ns).traceparent)
        if len(self._stages) >= OPEN_AT_MOST:
            self._end_stage(next(iter(self._stages)))
        attributes = {"thalweg.turn": epoch, "thalweg.stage": node.name, "thalweg.use": node.info.use, **self._common}
        opened = self._stages[node.name, epoch] = self._open(node.name, parent, attributes, start_ns)
        return opened

    def _root(self, epoch: int, time_ns: int) -> _Open:
        if epoch not in self._roots:
            if len(self._roots) >= OPEN_AT_MOST:
                self._end(self._roots.pop(next(iter(self._roots))))
            start_ns = min(time_ns, self._now_ns())  # a file read at full speed is ahead of its own time
            parent, more = self.belongs_to
            attributes = {"thalweg.turn": epoch, **self._common, **more}
            self._roots[epoch] = self._open("turn", context_of(parent), attributes, start_ns)
        return self._roots[epoch]

    def _open(self, name: str, parent: Any, attributes: dict[str, Any], start_ns: int) -> _Open:
        from opentelemetry.context import Context

        span = self._tracer.start_span(
            name, context=parent or Context(), attributes=attributes, start_time=self._unix_ns + start_ns
        )
        return _Open(span, traceparent_of(span), start_ns)

    def _end_stage(self, key: tuple[str, int]) -> tuple[str, Settled]:
        opened = self._stages.pop(key)
        opened.attributes |= {
            "thalweg.units": opened.units,
            "thalweg.emitted": opened.emitted,
            "thalweg.busy_ms": opened.busy_ns / 1e6,
        }
        self._end(opened)
        stage, epoch = key
        return stage, Settled(origin=stage, epoch=epoch, unix_ns=self._unix_ns + opened.last_ns)

    def _end(self, opened: _Open) -> None:
        opened.span.set_attributes(opened.attributes)
        opened.span.end(self._unix_ns + opened.last_ns)


def start_spans(
    worker: str, pipeline: str, now_ns: Callable[[], int], tell: Callable[[str, Settled], None]
) -> TurnSpans | None:
    """The spans of a worker, or None where no tracer provider is configured in this process."""
    found = tracer()
    return None if found is None else TurnSpans(found, worker, pipeline, now_ns, tell)


def tracer() -> Any:
    """Ours, or None where no tracer provider is configured in this process.

    A program that configures one has imported the API, or names it in `OTEL_PYTHON_TRACER_PROVIDER`, which the API
    loads.
    """
    if "opentelemetry.trace" not in sys.modules and "OTEL_PYTHON_TRACER_PROVIDER" not in os.environ:
        return None
    try:
        from opentelemetry import trace
    except ImportError:
        return None
    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
        return None
    return provider.get_tracer("thalweg", __version__)


async def flush_spans() -> None:
    """Let the provider send what it holds, for `FLUSH_S` at most: a worker's process may end without further notice."""
    from opentelemetry import trace

    flush = getattr(trace.get_tracer_provider(), "force_flush", None)
    if flush is not None:
        await asyncio.to_thread(flush, int(FLUSH_S * 1000))


def traceparent_of(span: Span) -> str:
    """The name of a span elsewhere."""
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def context_of(traceparent: str | None) -> Any:
    """The context of a span elsewhere, or None where the text names none."""
    match = _TRACEPARENT.fullmatch(traceparent or "")
    if match is None:
        return None
    from opentelemetry.context import Context
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    context = SpanContext(
        int(match[1], 16), int(match[2], 16), is_remote=True, trace_flags=TraceFlags(int(match[3], 16))
    )
    return set_span_in_context(NonRecordingSpan(context), Context()) if context.is_valid else None
