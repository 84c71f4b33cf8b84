"""One trace from a front to the host of a conversation: W3C `traceparent` on the calls between them.

    span        where                          parent
    offer       the front, or the one process  none: what strangers say of traces is not taken over
    connect     the conversation host          `offer`, by the header of the front's call
    turn        the host, for each turn        `connect`, and with it all that stages do (`spans.py`)

Nothing is made where no tracer provider is configured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from thalweg.deploy.ops.observing.spans import context_of, traceparent_of, tracer

HEADER = "traceparent"
_current: ContextVar[str] = ContextVar("traceparent", default="")


def headers() -> dict[str, str]:
    """Of a call to a host that is part of the current span; none where there is no span."""
    return {HEADER: _current.get()} if _current.get() else {}


def current() -> str:
    """The current span as a `traceparent`; empty where there is none."""
    return _current.get()


@contextmanager
def span(name: str, attributes: Mapping[str, str], parent: str = "") -> Iterator[dict[str, str]]:
    """A span for as long as the block runs, the current one in it. What the block puts into the dictionary becomes
    attributes of it; an error is its status.
    """
    more: dict[str, str] = {}
    found = tracer()
    if found is None:
        yield more
        return
    from opentelemetry.context import Context
    from opentelemetry.trace import SpanKind, Status, StatusCode

    made = found.start_span(
        name, context=context_of(parent) or Context(), kind=SpanKind.SERVER, attributes=dict(attributes)
    )
    token = _current.set(traceparent_of(made))
    try:
        yield more
    except Exception as error:
        made.set_status(Status(StatusCode.ERROR, type(error).__name__))
        raise
    finally:
        _current.reset(token)
        made.set_attributes(more)
        made.end()
