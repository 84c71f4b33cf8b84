"""A recogniser's stage as it would run in a pipeline, on the clock of the audio: what it says, when, at what cost.

Theory of operation. The audio goes through voice activity once; what that makes of it is handed to each stage packet by
packet. There are no real-time waits: time is that of the audio, and the stage's processor time is added to it, as on a
core of its own. A decode of Whisper runs when it is requested, on the audio available by then, and its result is held
back until the engine, which decodes one after the other, would have finished. So numbers do not depend on other load of
the machine, and a recogniser slower than speech falls behind here as in use.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.deploy.bench.speech.wer_text import words
from thalweg.deploy.testing import packet as packed
from thalweg.deploy.testing import run_stage
from thalweg.models.recipes.asr.measure import taken_back
from thalweg.models.speech.whisper.decode import DecodeRequest, Hypothesis, decode
from thalweg.models.speech.whisper.engine import Urgency
from thalweg.models.speech.whisper.model import WhisperModel
from thalweg.pipeline.duration import MS
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import AudioChunk, Payload, Speech, Transcript
from thalweg.stages.speech.vad import VoiceActivity

RATE = 16_000
_PIECE = 320
Floats = NDArray[np.float32]


@dataclass(slots=True)
class Recognised:
    """What one stage made of one recording. `first_s`: when the first text was shown; `cpu_s`: of the processor;
    `speech_s`: of audio that it was given; `changed`: words shown and taken back; `partials`: texts shown.
    """

    text: str
    first_s: float | None
    cpu_s: float
    speech_s: float
    changed: int
    partials: int


def turns(audio: Floats, silence_ms: int = 300) -> list[Packet]:
    """The recording as voice activity cuts it."""
    pieces = [AudioChunk(samples=audio[at : at + _PIECE], rate=RATE) for at in range(0, len(audio), _PIECE)]
    packets = [packed(piece, time=n * _PIECE * 1_000_000_000 // RATE) for n, piece in enumerate(pieces)]
    outcome = run_stage(VoiceActivity(silence=silence_ms * MS, barge_in=False), packets)
    return [each.packet for each in outcome.emitted]


def listen(stage: Any, spoken: Sequence[Packet], clock: Clock | None = None) -> Recognised:
    """Let a stage hear. It was opened by who made it. `clock`: the one that its engine works by, if it has one."""
    clock = clock or Clock()
    told = _Told(clock)
    cpu_s = speech_s = 0.0
    for packet in spoken:
        speech = packet.payload
        assert isinstance(speech, Speech)
        speech_s += len(speech.audio.samples) / RATE
        clock.now_s = max(clock.now_s, packet.time / 1e9 + len(speech.audio.samples) / RATE)
        began, elsewhere = time.process_time(), clock.engine_s
        stage.process(packet, told)
        spent = time.process_time() - began
        cpu_s += spent
        clock.now_s += max(0.0, spent - (clock.engine_s - elsewhere))
    return Recognised(" ".join(told.finals), told.first_s, cpu_s, speech_s, told.changed, told.partials)


@dataclass(slots=True)
class Clock:
    """The time of the audio. `engine_s`: processor time of decodes so far; `free_s`: when the engine has time again."""

    now_s: float = 0.0
    engine_s: float = 0.0
    free_s: float = 0.0


class Engine:
    """Stands for the engine of a process, and for the share of it that a stage holds."""

    def __init__(self, model: WhisperModel, clock: Clock) -> None:
        self.model = model
        self._clock = clock

    @property
    def value(self) -> Engine:
        """As a share has it."""
        return self

    def release(self) -> None:
        """As a share has it."""

    def order(self, ask: Callable[[], DecodeRequest], urgency: Urgency = Urgency.PARTIAL) -> Job:
        """Decode at once, tell later."""
        began, asked = time.process_time(), ask()
        (found,) = decode(self.model, [asked])
        took_s = time.process_time() - began
        clock = self._clock
        clock.engine_s += took_s
        clock.free_s = max(clock.free_s, clock.now_s) + took_s
        return Job(found, asked.audio_s, took_s, clock.free_s, clock)


@dataclass(slots=True)
class Job:
    """A decode that is done at `ready_s`."""

    found: Hypothesis
    heard_s: float
    took_s: float
    ready_s: float
    clock: Clock
    begun: bool = True

    @property
    def done(self) -> bool:
        """Whether that time has come."""
        return self.clock.now_s >= self.ready_s

    def wait(self, timeout_s: float) -> bool:
        """Let it come, and the audio wait."""
        self.clock.now_s = min(self.ready_s, self.clock.now_s + timeout_s)
        return self.done

    def cancel(self) -> None:
        """It was done when it was ordered; the engine is none the less busy with it."""

    def result(self) -> Hypothesis:
        """What was found."""
        return self.found


@dataclass(slots=True)
class _Told:
    """What a stage finds around it, and says."""

    clock: Clock
    finals: list[str] = field(default_factory=list)
    first_s: float | None = None
    changed: int = 0
    partials: int = 0
    name: str = "recogniser"
    stale: bool = False
    _shown: str = ""

    def peek(self, port: str | None = None) -> None:
        """What waits: nothing, for the audio comes at its own pace."""

    def signal(self, signal: object, direction: object = None) -> None:
        """Discards the signal: no stage receives it."""

    def emit(self, payload: Payload, **_: Any) -> None:
        """A text."""
        assert isinstance(payload, Transcript)
        text = " ".join(words(payload.text))
        if text and self.first_s is None:
            self.first_s = self.clock.now_s
        self.changed += taken_back(self._shown, text)
        self._shown = text
        if payload.final:
            self.finals.append(payload.text)
            self._shown = ""
        else:
            self.partials += 1
