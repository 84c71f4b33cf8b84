"""`thalweg bench video`: accuracy of a machine viewer against actual bit rate, over bad links, and what it costs.

Scenes are composed from photographs (synthetic; `scenes.py`), besides real clips where their packages are installed
(`packaged.py`); questions have known answers, the viewer is PP-OCR and simple detectors (`viewer.py`), or a vision
model of the user's. Seeds below 100 and from 700 on are for what is reported; the parameters were chosen on seeds 500
to 605. All of it takes an hour and a half on one quiet core, in pieces that are written down one by one (`--json`), so
that it can be stopped and gone on with (`--minutes`); only `cost` depends on what else the machine does. `--quick`
takes a minute, which shows that it works and nothing more.
"""

from __future__ import annotations

import importlib.metadata
import os
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from thalweg.deploy.bench import BenchError
from thalweg.deploy.bench.core.across import open_netlab
from thalweg.deploy.bench.journal import Journal
from thalweg.deploy.bench.result import OURS, Result, quantile
from thalweg.deploy.bench.video import allocation, chat, costs, loss, network
from thalweg.deploy.bench.video.allocation import Case, Tally
from thalweg.deploy.bench.video.clips import own_clips
from thalweg.deploy.bench.video.packaged import COUNTS, SAMPLES, WHERE, packaged_clip
from thalweg.deploy.bench.video.scenes import SECONDS, compose
from thalweg.deploy.bench.video.traces import traces
from thalweg.deploy.bench.video.viewer import vision
from thalweg.models.vision.ocr import PACKAGE as TEXT_READER

LEVEL = 0.9
"""The accuracy at which bit rates are compared."""

CLIPS = "THALWEG_BENCH_CLIPS"
"""Environment variable: a folder of one's own clips, to be measured besides."""

PARTS = ("curves", "traces", "loss", "cost")
"""What is measured if nothing else is said; `sockets` besides, which needs root and a source checkout."""
METHOD = "2"
"""Goes up when numbers of an earlier version no longer compare."""

_FILMED = {False: ((50, 51), 6.0), True: ((50,), 2.0)}
"""What is sent over traces, also if it has to be quick: scenes, and seconds of each."""

CHAT_S = 20.0
"""How long a conversation is watched."""

LOSSES = tuple(
    (share, bursty, delay_ms)
    for delay_ms in (40.0, 80.0, 20.0)
    for bursty in (False, True)
    for share in (0.01, 0.02, 0.05, 0.1, 0.2)
)
"""Share of packets, whether in bursts, delay one way in ms."""


class Curves(NamedTuple):
    """What is asked, how it is coded, of how many scenes, at which rates, by which systems."""

    kind: str
    codec: str
    clips: int
    rates: tuple[int, ...]
    systems: tuple[str, ...]


_TEXT = (36_000, 45_000, 55_000, 65_000, 80_000, 100_000, 125_000)
_SOFT = (45_000, 65_000, 100_000)
_OTHER = ("uniform", "oracle", "intent", "wrong", "stale 1 s", "stale 3 s")
CURVES = (
    Curves("text", "h264", 10, _TEXT, ("uniform",)),
    Curves("text", "h264", 10, (24_000, 30_000, *_TEXT[:6]), ("oracle", "intent")),
    Curves("text", "h264", 10, _SOFT, ("intent, told", "wrong, told", "stale 1 s", "stale 3 s", "wrong", "lowpass")),
    Curves("text", "vp9", 4, (50_000, 70_000, 100_000, 140_000), ("uniform", "oracle", "intent")),
    Curves("colour", "h264", 8, (20_000, 35_000, 60_000), ("uniform", "oracle", "intent")),
    Curves("direction", "h264", 8, (20_000, 35_000, 60_000), ("uniform", "oracle", "intent")),
    Curves("count", "h264", 10, (20_000, 35_000, 60_000), ("uniform", "oracle", "intent")),
    Curves("print", "h264", COUNTS["print"], (25_000, 40_000, 60_000, 90_000), _OTHER),
    Curves("people", "h264", COUNTS["people"], (15_000, 25_000, 40_000, 70_000), _OTHER),
    Curves("face", "h264", COUNTS["face"], (5_000, 8_000, 12_000), ("uniform", "oracle", "intent")),
)


def measure(
    result: Result, quick: bool, *, part: str | None = None, minutes: float | None = None, json_path: Path | None = None
) -> None:
    """Fill in the rows, of one part or of all; as many as can be found in `minutes`, and all that were found before."""
    for package in ("av", "opencv-python", TEXT_READER, "scikit-image"):
        result.versions[package] = importlib.metadata.version(package)
    result.notes.append("scenes are synthetic: composed from photographs, with a moving camera; bandwidth is generated")
    if (model := vision()) is not None:
        result.notes.append(f"the viewer is {model.name}; it is asked for each moment")
    method = METHOD + (" quick" if quick else "") + (f" {model.name}" if model is not None else "")
    path = None if json_path is None else json_path.with_suffix(".journal")
    journal = Journal(path, method, minutes=minutes, rounds=result.rounds)
    parts = {"curves": measure_curves, "traces": measure_traces, "loss": measure_loss, "cost": measure_costs}
    parts["sockets"] = measure_sockets
    if part is not None and part not in parts:
        raise BenchError(f"bench video has no part {part!r}; it has {', '.join(parts)}")
    for name in PARTS if part is None else (part,):
        parts[name](result, journal, quick)
    if journal.left:
        result.notes.append(f"the time was over: {journal.left} pieces are missing; run it again to go on")


def measure_curves(result: Result, journal: Journal, quick: bool) -> None:
    """Accuracy at matched bit rates, text and other questions, H.264 and VP9; composed scenes and packaged clips."""
    for curves in CURVES:
        tallies: dict[tuple[str, int], Tally] = {}
        rates = curves.rates[2:3] if quick else curves.rates
        if curves.kind in COUNTS and packaged_clip(curves.kind, 0, 0.1) is None:
            result.notes.append(
                f"{curves.kind} was not measured: {WHERE[curves.kind]}, or name the folder in {SAMPLES}"
            )
            continue
        for seed in range(1 if quick else curves.clips):
            case = partial(_case, seed, curves.kind, 2.0 if quick else SECONDS)
            for system in curves.systems:
                key = f"curves {curves.kind} {curves.codec} scene-{seed} {system} {rates}"
                _tally(tallies, system, rates, journal.find(key, partial(_curve, case, curves.codec, rates, system)))
        add_accuracy(result, curves.kind, curves.codec, tallies)
    if own := os.environ.get(CLIPS):
        measure_own(result, journal, Path(own))


def measure_own(result: Result, journal: Journal, folder: Path) -> None:
    """Accuracy on clips of the user's."""
    tallies: dict[tuple[str, int], Tally] = {}
    count = 0
    for clip in own_clips(folder):
        count += 1
        for kind in dict.fromkeys(question.kind for question in clip.questions):
            case = partial(Case.of, clip, kind)
            for system in ("uniform", "intent", "intent, told", "lowpass"):
                key = f"own {folder.resolve() / clip.name} {kind} {system}"
                found = journal.find(key, partial(_curve, case, "h264", _TEXT, system))
                _tally(tallies, system, _TEXT, found)
    result.notes.append(f"own: {count} clips of {folder}; the truth is what the viewer makes of them before coding")
    add_accuracy(result, "own", "h264", tallies)


@lru_cache(maxsize=1)
def _case(seed: int, kind: str, seconds: float) -> Case | None:
    clip = packaged_clip(kind, seed, seconds) if kind in COUNTS else compose(seed, seconds=seconds)
    return None if clip is None else Case.of(clip, kind)


def _curve(case: Any, codec: str, rates: tuple[int, ...], system: str) -> list[Any]:
    """What `Case.curve` gives; nothing of a clip that cannot be asked about."""
    made: Case | None = case()
    return [] if made is None else made.curve(codec, rates, system)


def _tally(tallies: dict[tuple[str, int], Tally], system: str, rates: tuple[int, ...], found: list[Any] | None) -> None:
    for rate, (right, bps, hit) in zip(rates, found or [], strict=False):
        tally = tallies.setdefault((system, rate), Tally())
        tally.right.append(right)
        tally.bitrates.append(bps)
        tally.missed += not hit


def add_accuracy(result: Result, kind: str, codec: str, tallies: dict[tuple[str, int], Tally]) -> None:
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


def measure_traces(result: Result, journal: Journal, quick: bool) -> None:
    """Bit rate over twelve bandwidth traces."""
    seeds, seconds = _FILMED[quick]
    for name, trace in list(traces().items())[: 1 if quick else None]:
        for system in network.SYSTEMS:
            found = journal.find(
                f"trace {name} {system}",
                lambda system=system, trace=trace: asdict(network.run(system, _film(seeds, seconds), trace)),  # type: ignore[misc]
            )
            if found is not None:
                add_trace(result, name, system, network.Run(**found))


@lru_cache(maxsize=1)
def _film(seeds: tuple[int, ...], seconds: float) -> network.Film:
    return network.film(seeds, seconds=seconds)


def measure_sockets(result: Result, journal: Journal, quick: bool) -> None:
    """Some of the traces in real time, with datagrams between two network namespaces."""
    from thalweg.deploy.bench.video import sockets

    lanes: list[sockets.Lane] = []
    netlab = open_netlab("bench video sockets")
    with netlab.lab("far", "near") as net:

        def play(system: str, trace: str) -> Any:
            if not lanes:
                lanes.append(sockets.Lane(net, *_FILMED[quick]))
            return lanes[0].run(system, trace)

        for trace in sockets.TRACES[: 1 if quick else None]:
            for system in sockets.SYSTEMS[: 1 if quick else None]:
                found = journal.find(f"sockets {trace} {system}", partial(play, system, trace))
                if found is not None:
                    add_trace(result, trace, system, network.Run(**found), "sockets")


def add_trace(result: Result, name: str, system: str, run: network.Run, how: str = "trace") -> None:
    """Rows of one run."""
    case = f"{how} {name}"
    if run.right:
        result.add(case, system, len(run.right), "share", accuracy=float(np.mean(run.right)))
    if run.stalled:
        result.add(case, system, len(run.stalled), "share", stalled=float(np.mean(run.stalled)))
    if run.latency_ms:
        mean, p95 = float(np.mean(run.latency_ms)), quantile(run.latency_ms, 0.95)
        result.add(case, system, len(run.latency_ms), "ms", latency_mean=mean, latency_p95=p95)
    result.add(case, system, 1, "kbit/s", bitrate=run.bits / run.seconds / 1e3)


def measure_loss(result: Result, journal: Journal, quick: bool) -> None:
    """Slots served under loss."""
    seeds, seconds = ((700,), 2.0) if quick else ((700, 701, 702), 8.0)
    for share, bursty, delay_ms in LOSSES[4:5] if quick else LOSSES:
        for system in loss.SYSTEMS:
            found = journal.find(
                f"loss {share} {bursty} {delay_ms} {system}",
                lambda at=(share, bursty), delay_ms=delay_ms, system=system: asdict(  # type: ignore[misc]
                    loss.run(system, _film(seeds, seconds), *at, delay_ms=delay_ms)
                ),
            )
            if found is not None:
                add_loss(result, share, bursty, delay_ms, system, loss.LossRun(**found))


def add_loss(result: Result, share: float, bursty: bool, delay_ms: float, system: str, run: loss.LossRun) -> None:
    """Rows of one run."""
    case = (
        f"loss {share:.0%} {'bursts' if bursty else 'random'}{'' if delay_ms == 40.0 else f', {2 * delay_ms:.0f} ms'}"
    )
    result.add(case, system, len(run.served), "share", served=float(np.mean(run.served)))
    if run.right:
        result.add(case, system, len(run.right), "share", accuracy=float(np.mean(run.right)))
    result.add(case, system, run.frames, "kbit/s", bitrate=run.bits / run.seconds / 1e3)


def measure_costs(result: Result, journal: Journal, quick: bool) -> None:
    """Milliseconds."""
    frames = 10 if quick else 120
    measured = {
        "encode": lambda: [[size, system, values] for (size, system), values in costs.encoding(frames).items()],
        "decide": lambda: [["", name, values] for name, values in costs.deciding(frames).items()],
        "words": lambda: [["", "words by meaning", times] for times in [costs.sentence(frames)] if times],
    }
    for what, measure_it in measured.items():
        for size, name, values in journal.find(f"cost {what}", measure_it) or []:
            p50, p95 = costs.middle(values)
            if what == "encode":
                result.add(f"encode {size}", name, len(values), "ms", encode_p50=p50, encode_p95=p95)
            else:
                result.add(f"decide {name}", OURS, len(values), "ms", decide_p50=p50, decide_p95=p95)
    if (lacking := chat.missing()) is not None:
        result.notes.append(f"the cost of looking in a conversation was not measured: {lacking} is missing")
    elif not quick:
        for name, share in (journal.find("cost chat", partial(chat.shares, CHAT_S)) or {}).items():
            result.add(f"chat {name}", OURS, 1, "% of a core", server=share["server"], browser=share["browser"])
            result.add(f"chat {name}", OURS, 1, "1/s", frames=share["frames"])


def _named(system: str) -> str:
    """`thalweg` is allocation by intent, the system a user has; the others say what they are."""
    return OURS if system == "intent" else system
