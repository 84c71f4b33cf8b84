"""Draws the pictures of this folder from the JSON of benchmarks, with the packages of `thalweg[plot]`.

python docs/benchmarks/plot.py hop bench-hop.json docs/images/bench_hop.svg
python docs/benchmarks/plot.py freshness a.json b.json c.json docs/images/bench_freshness.svg
python docs/benchmarks/plot.py endofturn end.json docs/images/bench_endofturn.svg
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt

matplotlib.use("Agg")
matplotlib.rcParams["svg.hashsalt"] = "thalweg"

OURS, PEERS = "#0b6e99", ["#c8553d", "#8a7d3a", "#6d597a", "#3d8361", "#7f7f7f", "#b08bbb", "#444444"]
NAMES = {"delay_p50": "median", "delay_mean": "mean"}
DASHES = {"thalweg": "-", "thalweg-unix": "--", "thalweg-tcp": "-.", "thalweg-tls": ":"}


def draw_hop(rows: list[dict[str, Any]], picture: Path) -> None:
    """Latency against size, one panel for the median and one for the tail."""
    values: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    for row in rows:
        values[row["metric"], row["system"]][int(row["case"])] = row["value"]
    systems = list(dict.fromkeys(row["system"] for row in rows))
    peers = [system for system in systems if system not in DASHES]
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.6), sharey=True, layout="constrained")
    for panel, metric in zip(panels, ("p50", "p99"), strict=True):
        for system in systems:
            points = sorted(values[metric, system].items())
            ours = system in DASHES
            colour = OURS if ours else PEERS[peers.index(system) % len(PEERS)]
            panel.plot(
                *zip(*points, strict=True),
                DASHES.get(system, "-"),
                color=colour,
                label=system,
                marker="o" if ours else "s",
                markersize=3.5,
                linewidth=2.2 if system == "thalweg" else 1.2,
            )
        panel.set(xscale="log", yscale="log", title=metric, xlabel="payload, bytes")
        panel.grid(alpha=0.3, which="major")
    panels[0].set_ylabel("one way, µs")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    figure.savefig(picture, metadata={"Date": None})


def draw_freshness(rows: list[dict[str, Any]], picture: Path) -> None:
    """Age of frames per case and system."""
    values = {(row["case"], row["system"], row["metric"]): row["value"] for row in rows}
    pairs = list(dict.fromkeys((r["case"], r["system"]) for r in rows if r["metric"] == "age_p50"))
    figure, panel = plt.subplots(figsize=(9, 0.62 * len(pairs) + 1.3), layout="constrained")
    for place, (case, system) in enumerate(reversed(pairs)):
        p50, p99, most = (values[case, system, metric] for metric in ("age_p50", "age_p99", "age_max"))
        colour = OURS if system == "thalweg" else PEERS[0]
        panel.plot([p50, most], [place, place], color=colour, alpha=0.35, linewidth=7, solid_capstyle="butt")
        panel.plot(p50, place, "o", color=colour)
        panel.plot(p99, place, "|", color=colour, markersize=16, markeredgewidth=2.5)
    panel.axvline(110, color="#444444", linestyle="--", linewidth=1)
    panel.annotate("110 ms", (110, len(pairs) - 0.45), textcoords="offset points", xytext=(4, 0), fontsize=9)
    panel.set_yticks(range(len(pairs)), [f"{system}, {case}" for case, system in reversed(pairs)])
    panel.set(
        xscale="log",
        ylim=(-0.6, len(pairs) - 0.2),
        xlabel="age of a frame when the consumer gets it, ms (dot p50, line p99, bar to the maximum)",
    )
    panel.grid(alpha=0.3, axis="x", which="major")
    figure.savefig(picture, metadata={"Date": None})


def draw_endofturn(rows: list[dict[str, Any]], picture: Path) -> None:
    """Turns cut off against the delay of the others, over all turns: median on the left, mean on the right."""
    values = {(row["system"], row["metric"]): row["value"] for row in rows if row["case"] == "all"}
    systems = [system for system, metric in values if metric == "cut_off"]
    scaled = sorted(
        (s for s in systems if "×" in s or s == "sound and words"), key=lambda system: values[system, "delay_mean"]
    )
    figure, panels = plt.subplots(1, 2, figsize=(10, 4.2), sharey=True, layout="constrained")
    for panel, metric in zip(panels, NAMES, strict=True):
        panel.plot([values[s, metric] for s in scaled], [values[s, "cut_off"] for s in scaled], "-", color=OURS)
        for system in systems:
            at = values[system, metric], values[system, "cut_off"]
            ours = system in scaled
            panel.plot(*at, "o" if ours else "s", color=OURS if ours else PEERS[0], markersize=5)
            panel.annotate(system, at, textcoords="offset points", xytext=(6, 4), fontsize=8)
        panel.set(xlabel=f"delay of the others, {NAMES[metric]}, ms", xscale="log", xlim=(250, 5_000))
        panel.set_xticks((300, 500, 1_000, 2_000, 3_000), ("300", "500", "1,000", "2,000", "3,000"))
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("turns cut off, %")
    figure.savefig(picture, metadata={"Date": None})


def main() -> None:
    """Entry point."""
    kind, *files, picture = sys.argv[1:]
    rows = [row for file in files for row in json.loads(Path(file).read_text(encoding="utf-8"))["rows"]]
    {"hop": draw_hop, "freshness": draw_freshness, "endofturn": draw_endofturn}[kind](rows, Path(picture))


if __name__ == "__main__":
    main()
