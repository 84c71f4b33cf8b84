"""The pictures in docs/images from the JSON of `thalweg bench video`, and one frame side by side.

python -m thalweg.deploy.bench.video.plots video.json docs/images
"""

from __future__ import annotations

import json
import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.deploy.bench.video.allocation import Intended
from thalweg.deploy.bench.video.footage import OPENING, Coded, Footage, Looks, matched
from thalweg.deploy.bench.video.scenes import Clip, compose
from thalweg.deploy.bench.video.viewer import around, plain, reader
from thalweg.pipeline.video.quantiser import Shape, penalties
from thalweg.pipeline.video.regions import Box

Rows = list[dict[str, Any]]
_COLOURS = {
    "uniform": "#6b7785",
    "thalweg": "#c8553d",
    "oracle": "#2a6f97",
    "lowpass": "#8d6a9f",
    "intent, told": "#e07a5f",
    "wrong": "#b5a642",
    "wrong, told": "#588157",
    "stale 1 s": "#e09f3e",
    "stale 3 s": "#b08968",
    "rate only": "#2a6f97",
    "congestion": "#6b7785",
    "fixed-rate": "#b5a642",
    "rtx": "#2a6f97",
    "fec": "#8d6a9f",
}
_NAMES = {
    "thalweg": "Thalweg",
    "uniform": "even coding",
    "oracle": "region known",
    "intent, told": "by intent, viewer answers",
    "wrong": "wrong region",
    "wrong, told": "wrong region, viewer answers",
    "stale 1 s": "region 1 s old",
    "stale 3 s": "region 3 s old",
    "lowpass": "low-pass",
    "rate only": "rate by confidence, even",
    "congestion": "congestion control, even",
    "fixed-rate": "fixed rate, even",
    "rtx": "retransmission",
    "fec": "error correction",
}


def curve(rows: Rows, name: str, path: Path) -> None:
    """Accuracy against actual bit rate, with 95 % intervals."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    points: dict[str, list[tuple[float, float, float, float]]] = {}
    cases = {row["case"] for row in rows if re.fullmatch(rf"{re.escape(name)} \d+ kbit/s", row["case"])}
    for case in cases:
        for system in {row["system"] for row in rows if row["case"] == case}:
            found = {r["metric"]: r["value"] for r in rows if r["case"] == case and r["system"] == system}
            points.setdefault(system, []).append(
                (found["bitrate"], found["accuracy"], found["accuracy_low"], found["accuracy_high"])
            )
    figure, axes = plt.subplots(figsize=(7.5, 4.6), dpi=130)
    for system in [s for s in _COLOURS if s in points]:
        x, y, low, high = (np.array(v) for v in zip(*sorted(points[system]), strict=True))
        strong = system in ("uniform", "thalweg", "oracle")
        axes.plot(
            x,
            y,
            "o-" if strong else "o--",
            color=_COLOURS[system],
            label=_NAMES.get(system, system),
            lw=2.2 if strong else 1.2,
            ms=4,
        )
        if strong:
            axes.fill_between(x, low, high, color=_COLOURS[system], alpha=0.12, lw=0)
    axes.set_xscale("log")
    ticks = sorted({int(case.split()[-2]) for case in cases})
    axes.set_xticks(ticks, [str(t) for t in ticks])
    axes.minorticks_off()
    axes.set_xlabel("actual bit rate, kbit/s")
    axes.set_ylabel("right answers")
    axes.set_ylim(-0.03, 1.03)
    axes.grid(alpha=0.25)
    axes.set_title(f"{name}, 640×480 at 10 frames/s, synthetic scenes", fontsize=10, loc="left")
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def bars(rows: Rows, prefix: str, metrics: dict[str, str], systems: list[str], path: Path) -> None:
    """One panel per metric, one group per case that begins with `prefix`."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    cases = list(dict.fromkeys(row["case"] for row in rows if row["case"].startswith(prefix)))
    there = {row["system"] for row in rows if row["case"] in cases}
    systems = [system for system in systems if system in there]
    figure, panels = plt.subplots(len(metrics), 1, figsize=(9, 2.3 * len(metrics)), dpi=130, sharex=True)
    for axes, (metric, label) in zip(panels, metrics.items(), strict=True):
        for k, system in enumerate(systems):
            value = {r["case"]: r["value"] for r in rows if r["system"] == system and r["metric"] == metric}
            place = np.arange(len(cases)) + (k - (len(systems) - 1) / 2) * 0.8 / len(systems)
            axes.bar(
                place,
                [value.get(c, np.nan) for c in cases],
                0.8 / len(systems),
                color=_COLOURS[system],
                label=_NAMES.get(system, system),
            )
        if metric.startswith("latency"):
            axes.set_yscale("log")
        axes.set_ylabel(label, fontsize=9)
        axes.grid(axis="y", alpha=0.25)
    panels[0].legend(frameon=False, fontsize=8, ncols=len(systems), loc="lower left", bbox_to_anchor=(0, 1.0))
    panels[-1].set_xticks(
        range(len(cases)), [case.removeprefix(prefix).strip() for case in cases], rotation=30, ha="right", fontsize=8
    )
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def side_by_side(clip: Clip, rate_bps: int, at: int, path: Path) -> None:
    """One frame, coded evenly and with the region, at the same actual bit rate, with what the viewer read."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.patches import Rectangle

    question = clip.questions[0]
    footage, shown = Footage(clip), Intended(clip, question.words)
    figure = plt.figure(figsize=(12, 6.2), dpi=100)
    grid = figure.add_gridspec(2, 3, height_ratios=(1.0, 0.75))
    frame: NDArray[np.uint8] = clip.frames[at]
    entries: list[tuple[str, NDArray[np.uint8]]] = [("uncoded", frame)]
    for name, looks in (("even coding", _even), ("Thalweg, by intent", shown.at)):
        encode = partial(_encode, footage, looks)
        coded, _ = matched(encode, rate_bps, 1.1)
        entries.append((f"{name}: {coded.bitrate_bps / 1e3:.1f} kbit/s", coded.pictures("h264", [at])[at]))
    for column, (title, picture) in enumerate(entries):
        axes = figure.add_subplot(grid[0, column])
        axes.imshow(picture)
        axes.set_title(title, fontsize=11)
        axes.axis("off")
        if column == 2:
            boxes, strength = shown.at(at)
            found = penalties(boxes, 640, 480, strength=strength)
            for row, line in enumerate(found):
                for col, value in enumerate(line):
                    if value == 0:
                        axes.add_patch(Rectangle((col * 32, row * 32), 32, 32, fill=False, ec="#ffcc33", lw=0.8))
        crop = around(picture, question.boxes[at])
        lines = reader().read(crop)
        read = next((line.text for line in lines if plain(question.answer) == plain(line.text)), None)
        nearest = max(lines, key=lambda line: _common(line.text, question.answer), default=None)
        said = read or (nearest.text if nearest else "nothing")
        box = question.boxes[at]
        x, y = round((box[0] + box[2] / 2) * 640), round((box[1] + box[3] / 2) * 480)
        zoom = picture[max(0, y - 40) : y + 40, max(0, x - 75) : x + 75]
        below = figure.add_subplot(grid[1, column])
        below.imshow(zoom, interpolation="nearest")
        below.axis("off")
        below.set_title(f"read: {said}  {'✓' if read else '✗'}", fontsize=12, color="#2b7a3f" if read else "#b3261e")
    figure.suptitle(f"“{question.words}”   asked of a synthetic scene; answer: {question.answer}", fontsize=12)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def _even(_: int) -> tuple[tuple[Box, ...], float]:
    return (), 0.0


def _encode(footage: Footage, looks: Looks, target_bps: int) -> Coded:
    return footage.encode("h264", target_bps, looks, Shape(), opening=0 if looks is _even else OPENING)


def _common(a: str, b: str) -> int:
    return sum(x == y for x, y in zip(plain(a), plain(b), strict=False))


def main(json_path: Path, folder: Path) -> None:
    """Draw everything that the rows have."""
    rows: Rows = json.loads(json_path.read_text(encoding="utf-8"))["rows"]
    curve(rows, "text x264", folder / "video_text_x264.png")
    curve(rows, "text vp9", folder / "video_text_vp9.png")
    bars(
        rows,
        "trace",
        {"accuracy": "right answers", "bitrate": "kbit/s sent", "latency_p95": "p95 frame\nlatency, ms"},
        ["thalweg", "rate only", "congestion", "fixed-rate"],
        folder / "video_traces.png",
    )
    bars(
        rows,
        "loss",
        {"served": "slots served\nin 150 ms", "accuracy": "right answers", "bitrate": "kbit/s sent"},
        ["thalweg", "rtx", "fec", "fixed-rate"],
        folder / "video_loss.png",
    )
    side_by_side(compose(0), 45_000, 25, folder / "video_side_by_side.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
