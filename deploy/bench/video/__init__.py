"""`thalweg bench video`: accuracy of a machine viewer against actual bit rate, over bad links, and what it costs.

Scenes are composed from photographs (synthetic; `scenes.py`), questions have known answers, the viewer is PP-OCR and
simple detectors (`viewer.py`). Seeds below 100 and from 700 on are for what is reported; the parameters were chosen on
seeds 500 to 605. Takes an hour on one quiet core; `--quick` a minute, which shows that it works and nothing more.
"""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path

import numpy as np

from thalweg.deploy.bench.result import OURS, Result, quantile
from thalweg.deploy.bench.video import allocation, costs, loss, network
from thalweg.deploy.bench.video.clips import own_clips
from thalweg.deploy.bench.video.scenes import compose
from thalweg.deploy.bench.video.traces import traces

LEVEL = 0.9
"""The accuracy at which bit rates are compared."""

CLIPS = "THALWEG_BENCH_CLIPS"
"""Environment variable: a folder of one's own clips, to be measured besides."""

TEXT_RATES = (45_000, 55_000, 65_000, 80_000, 100_000, 125_000)
SOFT_RATES = (65_000, 100_000, 125_000)
LOSSES = ((0.1, False, 40.0), (0.2, False, 40.0), (0.1, True, 40.0), (0.2, False, 80.0))
"""Share of packets, whether in bursts, delay one way in ms."""


def measure(result: Result, quick: bool) -> None:
    """Fill in the rows."""
    for package in ("av", "opencv-python", "rapidocr-onnxruntime", "scikit-image"):
        result.versions[package] = importlib.metadata.version(package)
    result.notes.append("scenes are synthetic: composed from photographs, with a moving camera; bandwidth is generated")
    measure_accuracy(result, quick)
    measure_traces(result, quick)
    measure_loss(result, quick)
    measure_costs(result, quick)


def measure_accuracy(result: Result, quick: bool) -> None:
    """Accuracy at matched bit rates, text and other questions, H.264 and VP9."""
    clips, few = (1, 1) if quick else (10, 4)
    jobs: tuple[tuple[str, str, int, tuple[int, ...], tuple[str, ...]], ...] = (
        ("text", "h264", clips, TEXT_RATES, ("uniform", "oracle", "intent")),
        ("text", "h264", clips, SOFT_RATES, ("wrong", "wrong, told", "stale 1 s", "stale 3 s", "lowpass")),
        ("text", "vp9", few, (50_000, 70_000, 100_000, 140_000), ("uniform", "oracle", "intent")),
        ("colour", "h264", few, (20_000, 35_000, 60_000), ("uniform", "intent")),
        ("direction", "h264", few, (20_000, 35_000, 60_000), ("uniform", "intent")),
    )
    length = 2.0 if quick else 4.0
    for kind, codec, count, rates, systems in jobs:
        shown = (compose(seed, seconds=length) for seed in range(count))
        tallies = allocation.curves(shown, kind, codec, rates[2:3] if quick else rates, systems)
        add_accuracy(result, kind, codec, tallies)
    if own := os.environ.get(CLIPS):
        found = list(own_clips(Path(own)))
        result.notes.append(f"own: {len(found)} clips of {own}; the truth is what the viewer reads before coding")
        tallies = allocation.curves(found, "text", "h264", TEXT_RATES, ("uniform", "intent", "lowpass"))
        add_accuracy(result, "own", "h264", tallies)


def add_accuracy(result: Result, kind: str, codec: str, tallies: dict[tuple[str, int], allocation.Tally]) -> None:
    """Rows of one kind of question and codec: per rate, and the rate at equal accuracy."""
    name = f"{kind} {'x264' if codec == 'h264' else codec}"
    for (system, rate), tally in tallies.items():
        n = sum(len(clip) for clip in tally.right)
        if not n:
            continue
        low, high = tally.interval()
        case = f"{name} {rate // 1000} kbit/s"
        result.add(case, _named(system), n, "share", accuracy=tally.accuracy(), accuracy_low=low, accuracy_high=high)
        result.add(case, _named(system), n, "kbit/s", bitrate=float(np.mean(tally.bitrates)) / 1e3)
        if tally.missed:
            result.notes.append(f"{case}, {system}: the rate of {tally.missed} clips could not be matched within 3 %")
    for system in dict.fromkeys(system for system, _ in tallies):
        reached = allocation.rate_for(tallies, system, LEVEL)
        if reached is not None:
            result.add(name, _named(system), len(tallies), "kbit/s", bitrate_equal_accuracy=reached / 1e3)


def measure_traces(result: Result, quick: bool) -> None:
    """Bit rate over twelve bandwidth traces."""
    shown = network.film([50] if quick else [50, 51], seconds=2.0 if quick else 6.0)
    for name, trace in list(traces().items())[: 1 if quick else None]:
        for system in network.SYSTEMS:
            add_trace(result, name, system, network.run(system, shown, trace))


def add_trace(result: Result, name: str, system: str, run: network.Run) -> None:
    """Rows of one run."""
    case, n = f"trace {name}", len(run.right)
    mean = float(np.mean(run.latency_ms)) if run.latency_ms else float("nan")
    p95 = quantile(run.latency_ms, 0.95) if run.latency_ms else float("nan")
    result.add(case, system, n, "share", accuracy=float(np.mean(run.right)), stalled=float(np.mean(run.stalled)))
    result.add(case, system, len(run.latency_ms), "ms", latency_mean=mean, latency_p95=p95)
    result.add(case, system, 1, "kbit/s", bitrate=run.bits / run.seconds / 1e3)


def measure_loss(result: Result, quick: bool) -> None:
    """Slots served under loss."""
    shown = network.film([700] if quick else [700, 701, 702], seconds=2.0 if quick else 8.0)
    for share, bursty, delay_ms in LOSSES[1:2] if quick else LOSSES:
        for system in loss.SYSTEMS:
            add_loss(result, share, bursty, delay_ms, system, loss.run(system, shown, share, bursty, delay_ms=delay_ms))


def add_loss(result: Result, share: float, bursty: bool, delay_ms: float, system: str, run: loss.LossRun) -> None:
    """Rows of one run."""
    case = f"loss {share:.0%} {'bursts' if bursty else 'random'}{'' if delay_ms == 40.0 else ', 160 ms'}"
    result.add(case, system, len(run.served), "share", served=float(np.mean(run.served)))
    result.add(case, system, len(run.right), "share", accuracy=float(np.mean(run.right)))
    result.add(case, system, run.frames, "kbit/s", bitrate=run.bits / run.seconds / 1e3)


def measure_costs(result: Result, quick: bool) -> None:
    """Milliseconds."""
    frames = 10 if quick else 120
    for (size, system), values in costs.encoding(frames).items():
        p50, p95 = costs.middle(values)
        result.add(f"encode {size}", system, len(values), "ms", encode_p50=p50, encode_p95=p95)
    decided = costs.deciding(frames)
    times = costs.sentence(frames)
    if times:
        decided["words by meaning"] = times
    for name, values in decided.items():
        p50, p95 = costs.middle(values)
        result.add(f"decide {name}", OURS, len(values), "ms", decide_p50=p50, decide_p95=p95)


def _named(system: str) -> str:
    """`thalweg` is allocation by intent, the system a user has; the others say what they are."""
    return OURS if system == "intent" else system
