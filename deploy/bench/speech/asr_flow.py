"""`bench asr flow` and `bench asr pipeline`: one stream of speech, in the recogniser alone and in a whole pipeline.

Lag is on the clock of the audio: a piece of 32 ms is there when it has been spoken, waits until the pieces before it
are done, and then takes as long as it took by the clock on the wall; lag is from its last sample to the end of that. A
recogniser that cannot keep up lags more and more. `lag_begin` and `lag_end` are the 95th percentiles of the first and
the last ten seconds of a minute without pauses.

`final`: from the last sample to the final text, the flush of the last chunk included; voice activity, which decides
that it was the last, is not in it. `core`: processor time over the length of the audio.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thalweg.deploy.bench.result import Result, quantile
from thalweg.deploy.runtime.worker import Worker
from thalweg.models.speech.fastconformer.deployed import Deployed
from thalweg.models.speech.loading import shared_recogniser
from thalweg.models.speech.recogniser import Recogniser
from thalweg.models.speech.wav import write_wav
from thalweg.pipeline.graph import Graph
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Transcript
from thalweg.pipeline.stage import Context
from thalweg.stages.io.audio import AudioFile
from thalweg.stages.io.sound import decoded
from thalweg.stages.speech.fastconformer import FastConformer
from thalweg.stages.speech.vad import VoiceActivity

Floats = NDArray[np.float32]
PIECE = 512
_WINDOW_S = 10
_QUIET = 0.01
_MS = 1_000_000


def speech(seconds: float, rate: int, pauses: bool = False) -> Floats:
    """The question of the examples over and over, [time] float32; without `pauses` all quiet 10 ms are cut out."""
    path = Path(str(files("thalweg.deploy").joinpath("examples/question.flac")))
    said = np.concatenate(list(decoded(path, rate, rate)))
    if not pauses:
        frames = said[: len(said) // (rate // 100) * (rate // 100)].reshape(-1, rate // 100)
        said = frames[np.abs(frames).max(axis=1) > _QUIET].reshape(-1)
    wanted = round(seconds * rate)
    return np.tile(said, -(-wanted // len(said)))[:wanted]


def measure_flow(result: Result, case: str, system: str, model: Deployed, lookahead: int, quick: bool) -> None:
    """Lag, processor time and final texts of one deployed form."""
    seconds, rate = 30 if quick else 60, model.config.mel.sample_rate
    audio = speech(seconds, rate)
    engine = Recogniser(model)
    lags, core = lags_ms(engine, audio, lookahead)
    part = _WINDOW_S * rate // PIECE
    result.add(case, system, len(lags), "core", core=core)
    begin, end = quantile(lags[:part], 0.95), quantile(lags[-part:], 0.95)
    result.add(case, system, part, "ms", lag_begin=begin, lag_end=end)
    finals = []
    for i in range(10 if quick else 50):
        stream = engine.open(lookahead)
        stream.feed(audio[i * 400 : i * 400 + rate + 97 * i])  # ends anywhere in a chunk
        start = time.perf_counter()
        stream.finish()
        finals.append((time.perf_counter() - start) * 1e3)
    p50, p95, p99 = (quantile(finals, share) for share in (0.5, 0.95, 0.99))
    result.add(case, system, len(finals), "ms", final_p50=p50, final_p95=p95, final_p99=p99)


def lags_ms(engine: Recogniser, audio: Floats, lookahead: int) -> tuple[list[float], float]:
    """The lag of every piece, and processor time over the length of the audio."""
    rate = engine.model.config.mel.sample_rate
    stream = engine.open(lookahead)
    found, free_s = [], 0.0
    cpu = time.process_time()
    for at in range(0, len(audio), PIECE):
        piece = audio[at : at + PIECE]
        spoken_s = (at + len(piece)) / rate
        start = time.perf_counter()
        stream.feed(piece)
        stream.guess()
        free_s = max(free_s, spoken_s) + time.perf_counter() - start
        found.append((free_s - spoken_s) * 1e3)
    cpu = time.process_time() - cpu
    stream.close()
    return found, cpu / (len(audio) / rate)


class _Count:
    """Counts final transcripts."""

    inputs = {"transcript": Transcript}

    def __init__(self) -> None:
        self.finals = 0

    def process(self, packet: Packet, ctx: Context) -> None:
        """Take one."""
        assert isinstance(packet.payload, Transcript)
        self.finals += packet.payload.final


def measure_pipeline(result: Result, case: str, system: str, model: Deployed, lookahead: int, quick: bool) -> None:
    """Processor time of the whole process while two minutes of speech go through it as a microphone would give them."""
    seconds, rate = 16 if quick else 120, model.config.mel.sample_rate
    kept = shared_recogniser(str(model.folder))  # loading is not part of the two minutes
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        write_wav(path, speech(seconds, rate, pauses=True), rate)
        sink = _Count()
        graph = Graph(name="speech")
        graph.add("file", AudioFile(path, rate))
        graph.add("vad", VoiceActivity(barge_in=False))
        ahead_ns = round(lookahead * model.config.frame_ms) * _MS
        graph.add("recogniser", FastConformer(str(model.folder), lookahead=ahead_ns))
        graph.add("count", sink)
        for source, target in (("file", "vad"), ("vad", "recogniser"), ("recogniser", "count")):
            graph.connect(source, target, capacity=64)
        cpu, wall = time.process_time(), time.perf_counter()
        worker = Worker(graph)
        asyncio.run(worker.run())
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    for problem in worker.problems:
        result.notes.append(f"{case} {system}: {problem.message}")
    del kept
    result.add(case, system, sink.finals, "core", pipeline_core=cpu / wall)
    result.add(case, system, 1, "s", pipeline_s=wall)
