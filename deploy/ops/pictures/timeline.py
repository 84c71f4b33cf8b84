"""A picture of a run: who worked when, unit by unit, and the milestones of each turn."""

from __future__ import annotations

import io
from pathlib import Path

from thalweg.deploy.ops.observing.outcome import Outcome
from thalweg.deploy.ops.observing.report import OutputError, write_whole
from thalweg.pipeline.observing.trace import Span
from thalweg.pipeline.observing.turn import Turn
from thalweg.pipeline.text import printable

_COLOURS = ("#3b6ea5", "#d98032", "#4f9a5b", "#b0475a", "#7a63a8", "#8a6d54", "#4aa3a8", "#8f8f3c")
_MARK_COLOUR = "#222222"
_LABELS = {
    "first_partial": "first partial",
    "final_transcript": "final",
    "first_token": "first token",
    "first_audio": "first audio",
    "decision": "decision",
}
_LEVELS = {"first_partial": 0, "first_audio": 1, "first_token": 2, "final_transcript": 3, "decision": 0}


def draw_timeline(path: Path, outcome: Outcome, title: str) -> None:
    """Draw to a PNG, SVG or PDF, as the ending of `path` says. Raises OutputError."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError:
        raise OutputError("a timeline needs matplotlib: pip install 'thalweg[plot]'") from None
    names = list(outcome.stages)
    spans: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    length_s = max(0.1, (outcome.ended_ns - outcome.started_ns) / 1e9)
    visible_s = length_s / 800  # what is narrower would not be seen
    for event in outcome.events:
        if isinstance(event, Span):
            start_s = (event.start_ns - outcome.started_ns) / 1e9
            spans[event.stage].append((start_s, max((event.end_ns - event.start_ns) / 1e9, visible_s)))
    names = [name for name in names if spans[name]]
    figure, axes = plt.subplots(
        figsize=(min(24.0, max(9.0, 1.6 * length_s)), 2.1 + 0.42 * len(names)), layout="constrained"
    )
    rows = {name: len(names) - i for i, name in enumerate(names)}
    for i, name in enumerate(names):
        axes.broken_barh(spans[name], (rows[name] - 0.36, 0.72), color=_COLOURS[i % len(_COLOURS)], linewidth=0)
    for turn in outcome.turns.values():
        _draw_turn(axes, turn, outcome.started_ns, len(names))
    sensed = any(turn.decision for turn in outcome.turns.values())
    axes.set_yticks([0, *rows.values()], ["sensing" if sensed else "speech", *rows])
    axes.set_ylim(-0.6, len(names) + 2.4)
    axes.set_xlim(0, length_s)
    axes.set_xlabel("seconds since the start")
    axes.set_title(f"{printable(title, 200)}: who worked when", loc="left", fontsize=11, parse_math=False)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    picture = io.BytesIO()
    try:
        figure.savefig(picture, format=path.suffix.lstrip(".") or "png", dpi=130)
    except ValueError as error:
        raise OutputError(f"cannot draw {path}: {error}") from None
    finally:
        plt.close(figure)
    write_whole(path, picture.getvalue())


def _draw_turn(axes: object, turn: Turn, start_ns: int, rows: int) -> None:
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    if turn.speech_end_ns is None:
        return
    end_s = (turn.speech_end_ns - start_ns) / 1e9
    begin_s = (turn.speech_start_ns - start_ns) / 1e9
    axes.broken_barh([(begin_s, end_s - begin_s)], (-0.28, 0.56), color="#bbbbbb", linewidth=0)
    axes.axvline(end_s, color=_MARK_COLOUR, linewidth=1.0, linestyle=":")
    for mark, time_ns in turn.marks.items():
        at_s = (time_ns - start_ns) / 1e9
        axes.vlines(at_s, -0.3, rows + 0.55, color=_MARK_COLOUR, linewidth=0.8)
        label = f"{_LABELS[mark]} {(time_ns - turn.speech_end_ns) / 1e6:+.0f} ms"
        before = mark in ("first_partial", "final_transcript")
        nudge = -0.03 if before else 0.03
        level = rows + 0.6 + 0.38 * _LEVELS[mark]
        axes.text(at_s + nudge, level, label, fontsize=7.5, ha="right" if before else "left", color=_MARK_COLOUR)
