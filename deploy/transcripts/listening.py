"""One recording through voice activity and a recogniser, and what comes of it.

Theory of operation. Voice activity cuts the recording into utterances. With more than one lane they are dealt out to as
many recognisers by turns, which share an engine: it decodes together what is waiting, and the texts are put in order
again by the turns that they belong to. An utterance is heard by one recogniser alone, so its text is the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from thalweg.deploy.ops.observing.outcome import Problem
from thalweg.deploy.runtime.worker import Worker
from thalweg.deploy.transcripts.progress import show_progress
from thalweg.deploy.transcripts.utterance import Said, Utterance
from thalweg.pipeline.duration import MS
from thalweg.pipeline.graph import Graph, Vertex
from thalweg.pipeline.packet import AMBIENT, Packet
from thalweg.pipeline.payload import Speech, SpeechEvent, Transcript
from thalweg.pipeline.stage import Context, Port, StageInfo
from thalweg.stages.io.audio import AudioFile
from thalweg.stages.speech.vad import VoiceActivity

RATE = 16_000
MOST_LANES = 16
_UNIT = 32 * MS
"""A frame of voice activity: begun anew at any multiple of it, speech is cut at the same places."""


@dataclass(frozen=True, slots=True)
class Recogniser:
    """Which recogniser, with which settings. `lanes`: how many utterances may be under way at once."""

    info: StageInfo
    settings: Mapping[str, Any]
    lanes: int = 1


@dataclass(slots=True)
class ListeningResult:
    """How it went. `complaints`: what was wrong with the recording; `failures`: with its recognition.

    `abandoned`: standard output has no reader any more.
    """

    turns: int = 0
    at_s: float = 0.0
    complaints: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    abandoned: bool = False


class _Deal:
    """Hands utterances to the lanes by turns."""

    inputs = {"speech": Speech}
    outputs = {f"lane_{lane}": Speech for lane in range(MOST_LANES)}

    def __init__(self, lanes: int) -> None:
        self._lanes, self._epoch, self._count = lanes, AMBIENT, 0

    def process(self, packet: Packet, ctx: Context) -> None:
        """Take a piece of speech; one of another turn begins an utterance."""
        if packet.epoch != self._epoch:
            self._epoch, self._count = packet.epoch, self._count + 1
        ctx.emit(packet.payload, port=f"lane_{self._count % self._lanes}")


class _Collect:
    """Puts together what a turn holds: when its voice began and ended, and what was said."""

    inputs = {"speech": Port(Speech), "transcript": Port(Transcript, many=True)}

    def __init__(
        self,
        lanes: int,
        on_partial: Callable[[Transcript, float], None],
        on_final: Callable[[Utterance, int, float], None],
    ) -> None:
        self._lanes, self._on_partial, self._on_final = lanes, on_partial, on_final
        self._spans: dict[int, tuple[int, int, bool]] = {}
        self._finals: dict[int, tuple[Transcript, int]] = {}

    def process(self, packet: Packet, ctx: Context) -> None:
        """Take a piece of speech, or what was understood of it."""
        if isinstance(packet.payload, Speech):
            speech, epoch = packet.payload, packet.epoch
            start_ns = self._spans.get(epoch, (packet.time, 0, False))[0]
            end_ns = packet.time + len(speech.audio.samples) * 1_000_000_000 // speech.audio.rate
            self._spans[epoch] = (
                start_ns,
                max(end_ns, self._spans.get(epoch, (0, 0, False))[1]),
                speech.event is SpeechEvent.END,
            )
        elif isinstance(packet.payload, Transcript):
            if packet.payload.final:
                self._finals[packet.epoch] = packet.payload, packet.time
            else:
                self._on_partial(packet.payload, packet.time / 1e9)
        self.settle()

    def settle(self, *, over: bool = False) -> None:
        """Give what is complete, in order. `over`: what has no text by now will have none."""
        epochs = sorted(self._spans)
        for place, epoch in enumerate(epochs):
            start_ns, end_ns, ended = self._spans[epoch]
            silent = over or any(later in self._finals for later in epochs[place + self._lanes :: self._lanes])
            if not ended or (epoch not in self._finals and not silent):
                break
            del self._spans[epoch]
            if epoch in self._finals:
                transcript, time_ns = self._finals.pop(epoch)
                self._on_final(_utterance(transcript, start_ns, end_ns), end_ns * RATE // 1_000_000_000, time_ns / 1e9)


def _utterance(transcript: Transcript, start_ns: int, end_ns: int) -> Utterance:
    words = tuple(Said(w.text, w.start_ns / 1e9, w.end_ns / 1e9, w.confidence) for w in transcript.words)
    end_ns = transcript.speech_end_ns if transcript.speech_end_ns is not None else end_ns
    return Utterance(
        words[0].start_s if words else start_ns / 1e9,
        max(words[-1].end_s, words[0].start_s) if words else end_ns / 1e9,
        transcript.text,
        words,
        str(getattr(transcript, "language", "")),
    )


def listen(
    recording: Path,
    recogniser: Recogniser,
    *,
    samples: int = 0,
    on_partial: Callable[[Transcript, float], None] = lambda transcript, at_s: None,
    on_final: Callable[[Utterance, int, float], None],
    progress: str = "",
) -> ListeningResult:
    """Recognise a recording from its sample `samples` on, as fast as it can be read, in constant memory.

    `on_final` gets each utterance, the sample it is done up to, and the second it was known at. `progress`: what to
    call the recording where it is told how far it is; nothing is told if empty. Raises KeyboardInterrupt, and
    ThalwegError where nothing could be begun with.
    """
    audio = AudioFile(recording, rate=RATE, unit=_UNIT, pace="full")
    audio.restore({"start_ns": 0, "done": samples})
    graph = Graph(name=str(recording))
    graph.add("file", audio)
    graph.add("vad", VoiceActivity(barge_in=False))
    text = _Collect(recogniser.lanes, on_partial, on_final)
    graph.add("text", text)
    graph.connect("file", "vad", capacity=64)
    graph.connect("vad", "text.speech", capacity=64)
    if recogniser.lanes > 1:
        graph.add("deal", _Deal(recogniser.lanes))
        graph.connect("vad", "deal", capacity=64)
    for lane in range(recogniser.lanes):
        name = "recogniser" if recogniser.lanes == 1 else f"recogniser_{lane}"
        graph.add_vertex(
            Vertex(name=name, info=recogniser.info, make=lambda: recogniser.info.cls(**recogniser.settings))
        )
        graph.connect("vad" if recogniser.lanes == 1 else f"deal.lane_{lane}", name, capacity=64)
        graph.connect(name, "text.transcript", capacity=64)
    worker = Worker(graph)
    heard = ListeningResult()
    worker.on_problem = partial(_problem, worker, heard)
    asyncio.run(_run(worker, audio, progress))
    if not heard.failures and not heard.abandoned:
        text.settle(over=True)
    heard.turns, heard.at_s = len(worker.turns.turns), audio.at_s
    return heard


async def _run(worker: Worker, audio: AudioFile, progress: str) -> None:
    failed: Exception | None = None
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(show_progress(progress, lambda: audio.at_s, lambda: audio.share))
        try:
            await worker.run()
        except Exception as error:
            failed = error  # as it is, not in a group
        finally:
            watching.cancel()
    if failed is not None:
        raise failed


def _problem(worker: Worker, heard: ListeningResult, problem: Problem) -> None:
    if problem.ends:
        heard.abandoned = True
        worker.abandon()
    elif problem.stage == "file":
        heard.complaints.append(problem.message)
    else:
        heard.failures.append(problem.message)
