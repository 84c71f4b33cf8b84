"""A run as a trace that Perfetto (ui.perfetto.dev) opens: one track per stage, turns and their milestones on top.

Format: Chrome's Trace Event Format, JSON object with `traceEvents`; times in microseconds from the start.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from thalweg.deploy.ops.observing.outcome import Outcome
from thalweg.deploy.ops.observing.report import write_whole
from thalweg.pipeline.observing.trace import Span


def write_trace(path: Path, outcome: Outcome) -> None:
    """Write what the run's trace kept. Raises OutputError."""
    write_whole(path, json.dumps({"traceEvents": trace_events(outcome), "displayTimeUnit": "ms"}))


def trace_events(outcome: Outcome) -> list[dict[str, Any]]:
    """The events; track 0 holds the turns."""
    start_ns = outcome.started_ns
    tracks = {name: i + 1 for i, name in enumerate(outcome.stages)}

    def us(time_ns: int) -> float:
        return (time_ns - start_ns) / 1e3

    events: list[dict[str, Any]] = [
        {"ph": "M", "name": "thread_name", "pid": 1, "tid": tid, "args": {"name": name}}
        for name, tid in {"turns": 0, **tracks}.items()
    ]
    for turn in outcome.turns.values():
        ended_ns = max([turn.speech_end_ns or turn.speech_start_ns, *turn.marks.values()])
        name = turn.transcript or f"turn {turn.epoch}"
        span = {"ts": us(turn.speech_start_ns), "dur": (ended_ns - turn.speech_start_ns) / 1e3}
        events.append({"ph": "X", "name": name, "pid": 1, "tid": 0, **span, "args": {"reply": turn.reply}})
        marks = dict(turn.marks) | ({} if turn.speech_end_ns is None else {"speech_end": turn.speech_end_ns})
        for mark, time_ns in marks.items():
            events.append({"ph": "i", "s": "p", "name": mark, "pid": 1, "tid": 0, "ts": us(time_ns)})
    for event in outcome.events:
        common = {"pid": 1, "tid": tracks[event.stage]}
        if isinstance(event, Span):
            args = {"seq": event.seq, "turn": event.epoch}
            length = {"ts": us(event.start_ns), "dur": (event.end_ns - event.start_ns) / 1e3}
            events.append({"ph": "X", "name": event.stream, **common, **length, "args": args})
        else:
            args = {"turn": event.epoch}
            events.append({"ph": "i", "s": "t", "name": event.text, "ts": us(event.time_ns), **common, "args": args})
    return events
