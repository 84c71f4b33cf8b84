"""Accuracy against latency of every profiled combination, with the ones worth choosing marked."""

from __future__ import annotations

from pathlib import Path

from thalweg.deploy.ops.observing.report import OutputError
from thalweg.pipeline.senses.configuring import Profile, pareto
from thalweg.pipeline.text import printable

_SHOWN = 10


def draw_pareto(path: Path, profile: Profile) -> None:
    """Draw to a PNG, SVG or PDF, as the ending of `path` says. Raises OutputError."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError:
        raise OutputError("a picture needs matplotlib: pip install 'thalweg[plot]'") from None
    figure, axes = plt.subplots(figsize=(8.5, 5.2), layout="constrained")
    twice = min(range(len(profile.slow_downs)), key=lambda level: abs(profile.slow_downs[level] - 2))
    for level, colour in ((0, "#3b6ea5"), (twice, "#d98032")):
        factor = profile.slow_downs[level]
        xs = [row.latency_ms[level] for row in profile.rows]
        ys = [100 * row.accuracy for row in profile.rows]
        axes.scatter(xs, ys, s=14, color=colour, alpha=0.35, linewidth=0)
        front = pareto(profile.rows, level)
        label = f"{factor:g} × as slow as profiled"
        axes.step(
            [row.latency_ms[level] for row in front], [100 * row.accuracy for row in front],
            where="post", color=colour, marker="o", markersize=4, linewidth=1.4, label=label,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("p95 latency, ms after the first modality was sensed to its end")
    axes.set_ylabel("accuracy on the profiled samples, %")
    axes.set_title(
        printable(f"{profile.pipeline}: {len(profile.rows)} combinations ({profile.made})", 200),
        loc="left",
        fontsize=11,
        parse_math=False,
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, loc="lower right", title="Pareto front")
    try:
        figure.savefig(path, dpi=130)
    except (ValueError, OSError) as error:
        raise OutputError(f"cannot draw {path}: {error}") from None
    finally:
        plt.close(figure)
