"""`bench asr steps`: one step of the encoder, ours, NeMo's, NeMo's export, and our weights without caches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from thalweg.deploy.bench.result import Result, quantile
from thalweg.deploy.bench.speech.nemo_asr import NemoOnnx, NemoPeer
from thalweg.deploy.bench.stopwatch import Stopwatch, Taken
from thalweg.models.speech.fastconformer.buffered import BufferedEncoder
from thalweg.models.speech.fastconformer.config import SUBSAMPLING
from thalweg.models.speech.fastconformer.deployed import Deployed
from thalweg.models.speech.fastconformer.encoder import Chunk, StreamingEncoder

_EXPORTED = 1
T = TypeVar("T")


def measure_steps(
    result: Result,
    case: Callable[[int], str],
    ours: Mapping[str, Deployed],
    nemo: NemoPeer | None,
    lookaheads: Sequence[int],
    folder: Path,
    quick: bool,
) -> None:
    """Rows for every look-ahead; the export has one, as it takes torch a while. `case` names a look-ahead's case."""
    encoders = {system: StreamingEncoder(model) for system, model in ours.items()}
    buffered = BufferedEncoder(next(iter(ours.values())))
    rounds, count = (2, 6) if quick else (3, 7)
    for lookahead in lookaheads:
        systems: dict[str, Callable[[], list[Taken]]] = {
            system: partial(steps, encoder, lookahead, count) for system, encoder in encoders.items()
        }
        if nemo is not None:
            systems["nemo"] = partial(nemo.steps, lookahead, count)
            exported = _export(nemo, folder / "nemo.onnx", lookahead, result) if lookahead == _EXPORTED else None
            if exported is not None:
                systems["nemo-onnx"] = partial(exported.steps, count)
        systems["buffered"] = partial(_buffered, buffered, lookahead, max(2, count // 4))
        taken: dict[str, list[Taken]] = defaultdict(list)
        result.rounds.expect(rounds * len(systems))
        for i in range(rounds):
            for system, run in systems.items():
                what = f"steps, {case(lookahead)}, round {i + 1} of {rounds}"
                taken[system] += (measured(result, system, what, run) or [])[1:]
        chunk_s = (lookahead + 1) * buffered.model.config.frame_ms / 1000
        for system, found in taken.items():
            if not found:
                continue
            wall, cpu = [one.wall_s * 1e3 for one in found], [one.cpu_s * 1e3 for one in found]
            result.add(
                case(lookahead), system, len(found), "ms", step_p50=quantile(wall, 0.5), step_p95=quantile(wall, 0.95)
            )
            result.add(case(lookahead), system, len(found), "ms", cpu_p50=quantile(cpu, 0.5))
            result.add(case(lookahead), system, len(found), "core", rtf=quantile(cpu, 0.5) / 1e3 / chunk_s)


def measured(result: Result, system: str, what: str, measure: Callable[[], T]) -> T | None:
    """A round of any system; None of a peer that is left out."""
    if system.startswith("nemo"):
        return result.rounds.peer(system, what, measure)
    return result.rounds.ours(what, measure, system=system)


def steps(encoder: StreamingEncoder, lookahead: int, count: int) -> list[Taken]:
    """Each of `count` steps of one stream in its middle."""
    config = encoder.config
    slot, frames = encoder.take_slot(), config.left * 3
    size = SUBSAMPLING * (lookahead + 1), config.mel.n_mels
    mel = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    taken = []
    for _ in range(count):
        clock = Stopwatch()
        encoder.step([Chunk(slot, mel, frames, 0)], lookahead)
        taken.append(clock.taken())
        frames += lookahead + 1
    encoder.give_back(slot)
    return taken


def _buffered(encoder: BufferedEncoder, lookahead: int, count: int) -> list[Taken]:
    config = encoder.model.config
    frames = config.left + 2 * lookahead + 1
    mel = np.random.default_rng(0).standard_normal((frames * SUBSAMPLING, config.mel.n_mels)).astype(np.float32)
    taken = []
    for _ in range(count):
        clock = Stopwatch()
        encoder.encode(mel, "joint" if config.rnnt else "ctc")
        taken.append(clock.taken())
    return taken


def _export(nemo: NemoPeer, path: Path, lookahead: int, result: Result) -> NemoOnnx | None:
    return result.rounds.peer("nemo-onnx", "its export", lambda: nemo.export(path, lookahead))
