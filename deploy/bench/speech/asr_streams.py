"""`bench asr streams`: how many streams one core holds in real time, sound to tokens, and the memory of one.

The largest number of streams whose round, one chunk of audio for each of them, takes less processor time than the chunk
lasts (median). Features, encoder and greedy decoding (RNN-T where there is one) are in it on both sides; NeMo's is its
own streaming pipeline.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from thalweg.deploy.bench.result import Result
from thalweg.deploy.bench.speech.asr_flow import speech
from thalweg.deploy.bench.speech.asr_steps import measured
from thalweg.deploy.bench.speech.nemo_asr import NemoPeer
from thalweg.deploy.bench.speech.nemo_streams import NemoStreams
from thalweg.deploy.bench.stopwatch import Stopwatch, Taken
from thalweg.models.speech.fastconformer.deployed import Deployed
from thalweg.models.speech.recogniser import Recogniser

MOST = 512
_BATCH = 32

Rounds = Callable[[int], list[Taken]]


def measure_streams(
    result: Result,
    case: str,
    ours: Mapping[str, Deployed],
    nemo: NemoPeer | None,
    lookahead: int,
    folder: Path,
    quick: bool,
) -> None:
    """Rows of one look-ahead."""
    config = next(iter(ours.values())).config
    chunk_s = (lookahead + 1) * config.frame_ms / 1000
    audio = speech(1.0 + chunk_s, config.mel.sample_rate)[config.mel.sample_rate :]
    count = 4 if quick else 6
    serving: dict[str, Rounds] = {
        system: partial(serve, model, audio, lookahead, count) for system, model in ours.items()
    }
    peer = _pipeline(nemo, lookahead, folder / "streams.nemo", result)
    if peer is not None:
        serving["nemo"] = lambda streams: peer.serve(audio, streams, count)
    held: dict[str, list[int]] = defaultdict(list)
    turns = 1 if quick else 3
    result.rounds.expect(turns * len(serving))
    for i in range(turns):
        for system, rounds in serving.items():
            what = f"streams, {case}, round {i + 1} of {turns}"
            most = measured(result, system, what, partial(largest, partial(_median_s, rounds), chunk_s))
            if most is not None:
                held[system].append(most)
    for system, found in held.items():
        result.add(case, system, len(found), "streams", streams=float(median(found)))
    for system, model in ours.items():
        result.add(case, system, 1, "MB", stream_mb=Recogniser(model).stream_bytes / 1e6)
    if nemo is not None:
        result.add(case, "nemo", 1, "MB", stream_mb=nemo.stream_bytes / 1e6)


def serve(model: Deployed, audio: NDArray[np.float32], lookahead: int, count: int, streams: int) -> list[Taken]:
    """Each of `count` rounds in which every stream gets `audio`, one chunk of it."""
    engine = Recogniser(model, max_streams=streams, max_batch=_BATCH)
    opened = [engine.open(lookahead) for _ in range(streams)]
    taken = []
    for _ in range(count):
        clock = Stopwatch()
        engine.feed([(stream, audio) for stream in opened])
        taken.append(clock.taken())
    for stream in opened:
        stream.close()
    return taken


def largest(seconds: Callable[[int], float], limit: float) -> int:
    """The largest number up to `MOST`, to an eighth, for which `seconds` stays below `limit`."""
    low, high = 0, 1
    while high <= MOST and seconds(high) < limit:
        low, high = high, high * 2
    if high > MOST:
        return low
    while high - low > max(1, low // 8):
        middle = (low + high) // 2
        low, high = (middle, high) if seconds(middle) < limit else (low, middle)
    return low


def _median_s(rounds: Rounds, streams: int) -> float:
    return median(one.cpu_s for one in rounds(streams)[1:])


def _pipeline(nemo: NemoPeer | None, lookahead: int, path: Path, result: Result) -> NemoStreams | None:
    if nemo is None:
        return None
    nemo.save(path)
    decoder = "rnnt" if nemo.config.rnnt else "ctc"
    return result.rounds.peer(
        "nemo", "its streaming pipeline", lambda: NemoStreams(path, decoder, nemo.config.left, lookahead, MOST)
    )
