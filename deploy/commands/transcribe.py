"""`thalweg transcribe`: files in, transcripts out, as fast as they can be read."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from thalweg.deploy.ops.observing.outcome import Problem
from thalweg.deploy.runtime.worker import Worker
from thalweg.models.speech.loading import recognisers
from thalweg.pipeline.file.catalog import find_stage
from thalweg.pipeline.file.values import Given, fit
from thalweg.pipeline.graph import Graph, GraphError, Vertex, nearest
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Speech, Transcript
from thalweg.pipeline.stage import Context, StageInfo
from thalweg.stages.io.audio import AudioFile
from thalweg.stages.io.terminal import READER_GONE, say, say_json
from thalweg.stages.speech.vad import VoiceActivity


class Print:
    """Prints transcripts of one file with times from its start."""

    inputs = {"transcript": Transcript}

    def __init__(self, path: Path, as_json: bool) -> None:
        self._path = path
        self._json = as_json
        self.worker: Worker | None = None

    def process(self, packet: Packet, ctx: Context) -> None:
        """Print one."""
        transcript = packet.payload
        assert isinstance(transcript, Transcript)
        assert self.worker is not None
        zero_ns = self.worker.started_ns
        seconds = (packet.time - zero_ns) / 1e9
        if not self._json:
            kind = "final  " if transcript.final else "partial"
            say(f"{seconds:9.2f} s  {kind}  {transcript.text}")
            return
        words = [
            {"text": w.text, "start_s": (w.start_ns - zero_ns) / 1e9, "end_s": (w.end_ns - zero_ns) / 1e9}
            for w in transcript.words
        ]
        record = {"file": str(self._path), "time_s": seconds, "final": transcript.final, "text": transcript.text}
        say_json(record | {"words": words})


def transcribe_files(files: Sequence[Path], engine: str, as_json: bool, settings: Mapping[str, str]) -> int:
    """Transcribe each file; returns 1 where one could not be.

    Raises StageError on an unknown engine, GraphError on settings that it does not take and files that are not there.
    """
    info = find_stage(f"speech.{engine}")
    if [port.type for port in info.inputs.values()] != [Speech]:
        raise GraphError(f"{info.use} is not a recogniser: it does not take speech")
    parameters = _parameters(info, settings)
    for path in files:
        if not path.is_file():
            raise GraphError(f"{path} does not exist")
    failed = False
    for path in files:
        if len(files) > 1 and not as_json:
            say(f"{path}:")
        graph = Graph(name=str(path))
        sink = Print(path, as_json)
        graph.add("file", AudioFile(path, pace="full"))
        graph.add("vad", VoiceActivity(barge_in=False))
        graph.add_vertex(Vertex(name="recogniser", info=info, make=lambda: info.cls(**parameters)))
        graph.add("print", sink)
        for source, target in (("file", "vad"), ("vad", "recogniser"), ("recogniser", "print")):
            graph.connect(source, target, capacity=64)
        try:
            worker = sink.worker = Worker(graph)
            ends: list[Problem] = []
            worker.on_problem = partial(_end, worker, ends)
            asyncio.run(worker.run())
            if ends:
                return READER_GONE
            problems = [problem.message for problem in worker.problems]
            if not worker.turns.turns and not problems and not as_json:
                say("no speech found")
        except KeyboardInterrupt:
            return 130
        except Exception as error:
            if not type(error).__module__.startswith("thalweg."):
                raise
            problems = [str(error)]
        for problem in problems:
            say(f"error: {problem}", err=True)
        failed = failed or bool(problems)
    return int(failed)


def _end(worker: Worker, ends: list[Problem], problem: Problem) -> None:
    if problem.ends:
        ends.append(problem)
        worker.abandon()


def _parameters(info: StageInfo, settings: Mapping[str, str]) -> dict[str, Any]:
    known = list(info.parameters.model_fields)
    for name in settings:
        if name not in known:
            raise GraphError(f"{info.use} has no parameter {name!r}{nearest(name, known)}, it takes {', '.join(known)}")
    try:
        given = {name: Given(value) for name, value in settings.items()}
        return info.check(fit(info, given, lambda path: None))
    except ValidationError as error:
        missing = [str(wrong["loc"][0]) for wrong in error.errors() if wrong["type"] == "missing"]
        if missing:
            example = f"{missing[0]}={recognisers()[0] if missing[0] == 'model' and recognisers() else '…'}"
            raise GraphError(f"{info.use} needs {' and '.join(missing)}, as in --set {example}") from None
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise GraphError(f"{info.use}: {wrong}") from None
