"""Streaming recognition next to NeMo on the same weights: time per step, streams per core, memory per stream.

Weights are random (timing does not depend on them) and the same for all systems: NeMo makes them, and its `.nemo`
archive is converted. Every system has one thread. `step` is by the clock on the wall, `cpu` the processor time of the
same steps, which other work on the machine lengthens much less; `rtf` and `streams` are made of the latter. Steps are
taken in the middle of a stream, with full caches; systems take turns, round by round. `buffered` encodes 5.6 s of
context again for every chunk.

`streams`: how many streams one core holds in real time: the largest batch whose step, features and RNN-T decoding
included, takes less processor time than the chunk lasts (median). NeMo's number is its `conformer_stream_step` on
batches and its own preprocessor, which is what its streaming pipeline runs, without the pipeline's bookkeeping.

`core`: processor time per second of audio of one stream that is fed 32 ms at a time, all included; `lag_growth`: what
a piece takes in the last ten seconds of a minute, over the first ten. `final`: from the last sample to the final text,
flush of the last chunk included; voice activity, which decides that it was the last, is not in it.
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from thalweg.deploy.bench.nemo_asr import LETTERS, NemoOnnx, NemoPeer
from thalweg.deploy.bench.result import OURS, Result, quantile
from thalweg.deploy.bench.stopwatch import Stopwatch, Taken
from thalweg.models.buffered import BufferedEncoder
from thalweg.models.deployed import Deployed, convert
from thalweg.models.encoder import Chunk, StreamingEncoder
from thalweg.models.fastconformer_config import LARGE, SMALL, SUBSAMPLING, FastConformerConfig
from thalweg.models.nemo_archive import Checkpoint, read_nemo, weight_shapes
from thalweg.models.recogniser import Recogniser
from thalweg.models.tokens import Tokens

LOOKAHEADS = (0, 1, 6, 13)
INT8 = "thalweg-int8"
_MOST_STREAMS = 512


class Ours:
    """One deployed form."""

    def __init__(self, model: Deployed) -> None:
        self.model = model
        self.encoder = StreamingEncoder(model)

    def steps(self, lookahead: int, count: int) -> list[Taken]:
        """Each of `count` steps of one stream in its middle."""
        slot, frames = self.encoder.take_slot(), self.model.config.left * 3
        mel = np.random.default_rng(0).standard_normal((SUBSAMPLING * (lookahead + 1), 80)).astype(np.float32)
        taken = []
        for _ in range(count):
            clock = Stopwatch()
            self.encoder.step([Chunk(slot, mel, frames, 0)], lookahead)
            taken.append(clock.taken())
            frames += lookahead + 1
        self.encoder.give_back(slot)
        return taken

    def serve(self, lookahead: int, streams: int, count: int) -> list[Taken]:
        """Each of `count` rounds in which every stream gets one chunk of audio: features to tokens."""
        engine = Recogniser(self.model, max_streams=streams, max_batch=32)
        opened = [engine.open(lookahead, head="rnnt") for _ in range(streams)]
        audio = (np.random.default_rng(0).standard_normal(1280 * (lookahead + 1)) * 0.1).astype(np.float32)
        taken = []
        for _ in range(count):
            clock = Stopwatch()
            engine.feed([(stream, audio) for stream in opened])
            taken.append(clock.taken())
        for stream in opened:
            stream.close()
        return taken


def measure(result: Result, quick: bool) -> None:
    """Fill in the rows."""
    result.notes.append("random weights, the same for all systems; one thread each; encoder step unless said otherwise")
    for name, config in (("12M", SMALL),) if quick else (("12M", SMALL), ("109M", LARGE)):
        with tempfile.TemporaryDirectory() as folder:
            _measure_size(result, name, config, Path(folder), quick)


def _measure_size(result: Result, name: str, config: FastConformerConfig, folder: Path, quick: bool) -> None:
    nemo = _nemo(config, result)
    if nemo is not None:
        nemo.save(folder / "model.nemo")
        checkpoint = read_nemo(folder / "model.nemo")
    else:
        checkpoint = _random(config)
    ours = {OURS: Ours(convert(checkpoint, folder / "fp32"))}
    ours[INT8] = Ours(convert(checkpoint, folder / "int8", int8=True))
    config = checkpoint.config
    buffered = BufferedEncoder(ours[OURS].model)
    rounds, count = (2, 6) if quick else (3, 7)
    for lookahead in (1,) if quick else LOOKAHEADS:
        chunk_s = (lookahead + 1) * config.frame_ms / 1000
        case = f"{name} {lookahead * config.frame_ms:.0f}ms"
        systems: dict[str, Callable[[], list[Taken]]] = {
            system: partial(one.steps, lookahead, count) for system, one in ours.items()
        }
        if nemo is not None:
            systems["nemo"] = partial(nemo.steps, lookahead, count)
            # one export is enough to compare with, and takes torch a while
            exported = _export(nemo, folder / "nemo.onnx", lookahead, result) if lookahead == 1 else None
            if exported is not None:
                systems["nemo-onnx"] = partial(exported.steps, count)
        systems["buffered"] = partial(_buffered_steps, buffered, lookahead, max(2, count // 4))
        taken: dict[str, list[Taken]] = defaultdict(list)
        for _ in range(rounds):
            for system, run in systems.items():
                taken[system] += run()[1:]
        for system, steps in taken.items():
            wall, cpu = [one.wall_s * 1e3 for one in steps], [one.cpu_s * 1e3 for one in steps]
            result.add(case, system, len(steps), "ms", step_p50=quantile(wall, 0.5), step_p95=quantile(wall, 0.95))
            result.add(case, system, len(steps), "ms", cpu_p50=quantile(cpu, 0.5))
            result.add(case, system, len(steps), "core", rtf=quantile(cpu, 0.5) / 1e3 / chunk_s)
        if lookahead == 1:
            _measure_streams(result, case, ours, nemo, lookahead, chunk_s, quick)
    for system, one in ours.items():
        _measure_flow(result, f"{name} 80ms", system, one.model, quick)
    for system, one in ours.items():
        result.add(f"{name} 80ms", system, 1, "MB", stream_mb=one.encoder.stream_bytes / 1e6)
    if nemo is not None:
        result.add(f"{name} 80ms", "nemo", 1, "MB", stream_mb=nemo.stream_bytes / 1e6)


def _measure_flow(result: Result, case: str, system: str, model: Deployed, quick: bool) -> None:
    piece, seconds = 512, 20 if quick else 60
    audio = (np.random.default_rng(0).standard_normal(seconds * 16_000) * 0.1).astype(np.float32)
    engine = Recogniser(model)
    stream, taken = engine.open(1), []
    cpu = time.process_time()
    for at in range(0, len(audio), piece):
        start = time.perf_counter()
        stream.feed(audio[at : at + piece])
        taken.append(time.perf_counter() - start)
    cpu = time.process_time() - cpu
    stream.close()
    tenth = 10 * 16_000 // piece
    result.add(case, system, 1, "core", core=cpu / seconds)
    result.add(case, system, tenth, "ratio", lag_growth=sum(taken[-tenth:]) / sum(taken[:tenth]))
    finals = []
    for i in range(10 if quick else 50):
        stream = engine.open(1)
        stream.feed(audio[i * 400 : i * 400 + 16_000 + 97 * i])  # ends anywhere in a chunk
        start = time.perf_counter()
        stream.finish()
        finals.append((time.perf_counter() - start) * 1e3)
    p50, p95, p99 = (quantile(finals, share) for share in (0.5, 0.95, 0.99))
    result.add(case, system, len(finals), "ms", final_p50=p50, final_p95=p95, final_p99=p99)


def _measure_streams(
    result: Result,
    case: str,
    ours: dict[str, Ours],
    nemo: NemoPeer | None,
    lookahead: int,
    chunk_s: float,
    quick: bool,
) -> None:
    count = 3 if quick else 4
    held: dict[str, list[int]] = defaultdict(list)
    for _ in range(1 if quick else 2):
        for system, one in ours.items():
            held[system].append(_most(partial(_served, one, lookahead, count), chunk_s))
        if nemo is not None:
            held["nemo"].append(_most(partial(_nemo_served, nemo, lookahead, count, chunk_s), chunk_s))
    for system, found in held.items():
        result.add(case, system, len(found), "streams", streams=float(median(found)))


def _served(ours: Ours, lookahead: int, count: int, streams: int) -> float:
    return median(one.cpu_s for one in ours.serve(lookahead, streams, count)[1:])


def _nemo_served(nemo: NemoPeer, lookahead: int, count: int, chunk_s: float, streams: int) -> float:
    features = median(nemo.features(chunk_s).cpu_s for _ in range(5))
    steps = nemo.steps(lookahead, count, streams, decode=True)[1:]
    return median(one.cpu_s for one in steps) + streams * features


def _most(seconds: Callable[[int], float], limit: float) -> int:
    """The largest number up to `_MOST_STREAMS`, to an eighth, for which `seconds` stays below `limit`."""
    low, high = 0, 1
    while high <= _MOST_STREAMS and seconds(high) < limit:
        low, high = high, high * 2
    if high > _MOST_STREAMS:
        return low
    while high - low > max(1, low // 8):
        middle = (low + high) // 2
        low, high = (middle, high) if seconds(middle) < limit else (low, middle)
    return low


def _buffered_steps(encoder: BufferedEncoder, lookahead: int, count: int) -> list[Taken]:
    frames = encoder.model.config.left + 2 * lookahead + 1
    mel = np.random.default_rng(0).standard_normal((frames * SUBSAMPLING, 80)).astype(np.float32)
    taken = []
    for _ in range(count):
        clock = Stopwatch()
        encoder.encode(mel, "joint")
        taken.append(clock.taken())
    return taken


def _nemo(config: FastConformerConfig, result: Result) -> NemoPeer | None:
    if importlib.util.find_spec("nemo") is None:
        result.notes.append("nemo, nemo-onnx: left out, not installed (pip install 'thalweg[nemo]')")
        return None
    import nemo

    result.versions["nemo"] = nemo.__version__
    return NemoPeer(config)


def _export(nemo: NemoPeer, path: Path, lookahead: int, result: Result) -> NemoOnnx | None:
    try:
        return nemo.export(path, lookahead)
    except Exception as error:  # whatever torch's exporter raises: a finding about the peer
        result.notes.append(f"nemo-onnx: left out, its export fails: {type(error).__name__}: {str(error)[:120]}")
        return None


def _random(config: FastConformerConfig) -> Checkpoint:
    config = replace(config, vocabulary=len(LETTERS))
    rng = np.random.default_rng(0)
    weights = {
        name: (rng.standard_normal(shape) * (0.5 / np.sqrt(float(np.prod(shape[1:]))))).astype(np.float32)
        for name, shape in weight_shapes(config).items()
    }
    weights["joint.joint_net.2.bias"][-1] = 100.0
    return Checkpoint(config, Tokens(tuple(LETTERS), characters=True), weights)
