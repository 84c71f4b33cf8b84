"""Streaming recognition by Whisper: a thin shell around `pipeline/speech/streaming.py` and this process's engine."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from thalweg.models.speech.whisper.decode import AUTO, DecodeRequest, Hypothesis, check_language
from thalweg.models.speech.whisper.engine import Engine, Job, Urgency, share_engine
from thalweg.models.speech.whisper.mel import RATE
from thalweg.models.store.sharing import Share
from thalweg.pipeline.duration import MS, Duration
from thalweg.pipeline.packet import AMBIENT, Packet
from thalweg.pipeline.payload import Speech, SpeechEvent, Transcript, Word
from thalweg.pipeline.signal import Direction, Words
from thalweg.pipeline.speech.hypothesis import Spoken, text_of
from thalweg.pipeline.speech.streaming import (
    Action,
    Decode,
    Drop,
    Final,
    Forget,
    Hearing,
    Rules,
    Show,
    State,
    Wait,
    Withdraw,
)
from thalweg.pipeline.stage import Context
from thalweg.pipeline.text import printable
from thalweg.stages.speech.transcripts import require_mono

log = logging.getLogger(__name__)

_LOOK_S = 0.05
_GUESS_S, _WHOLE_S = 4.0, 5.0  # shorter windows cost less; of longer ones than this nothing was heard better
_SURE_NS = 1_000 * MS  # audio from which on the language is decided by a partial text, too


class Whisper:
    """Recognises speech with Whisper on CTranslate2, with punctuation, in noise and in many languages.

    Emits a partial transcript whenever it has changed; its first `stable_chars` characters never change again. In each
    pause the final transcript is computed and emitted as a trial; if nothing more is said, it becomes the final one
    without a wait. A guess that has heard nearly all of the voice is a trial before that. Stages of one process with
    the same model share one engine; the text of one stream never depends on another.
    """

    inputs = {"speech": Speech}
    outputs = {"transcript": Transcript}
    configurable = ("language",)
    blocking = True
    batches = True  # stages of one process decode what is due together: several utterances at once cost less

    def __init__(
        self,
        model: Annotated[
            str, Field(description="a name of `thalweg models list`, or a folder converted by CTranslate2")
        ] = "whisper-base",
        language: Annotated[str, Field(description="language code; auto: detected once per turn")] = "en",
        task: Annotated[
            Literal["transcribe", "translate"], Field(description="translate: into English")
        ] = "transcribe",
        phrases: Annotated[tuple[str, ...], Field(description="names and terms that may come up")] = (),
        interval: Annotated[
            Duration, Field(description="shortest time between two partial transcripts; 0s: final ones only")
        ] = 300 * MS,
        share: Annotated[
            float, Field(gt=0, le=1, description="largest share of the time for partial transcripts")
        ] = 0.4,
        trial_after: Annotated[
            Duration, Field(description="pause of the voice after which the final text is computed; 0s: never")
        ] = 64 * MS,
        beam: Annotated[int, Field(ge=1, le=10, description="hypotheses kept for the final text; 1 is greedy")] = 2,
        device: Annotated[Literal["cpu", "cuda"], Field(description="device that computes")] = "cpu",
        compute: Annotated[str, Field(description="number format: auto, int8, float32, float16, …")] = "auto",
        threads: Annotated[int, Field(ge=1, description="threads of one decode")] = 1,
        workers: Annotated[
            int, Field(ge=1, le=16, description="decodes at the same time, for all stages with these settings")
        ] = 1,
    ) -> None:
        self._model, self._language, self._task, self._phrases = model, language, task, phrases
        self._beam, self._device, self._compute, self._threads, self._workers = beam, device, compute, threads, workers
        self._hearing = Hearing(Rules(interval_ns=interval, share=share, trial_after_ns=trial_after))
        self._share: Share[Engine] | None = None
        self._audio = _Audio()
        self._jobs: dict[int, tuple[Decode, Job]] = {}
        self._epoch = AMBIENT
        self._start_ns = 0
        self._spoken = language
        self._expected: tuple[int, ...] = ()
        self._failing = False
        self.counts: Counter[str] = Counter()

    def open(self, ctx: Context) -> None:
        """Load the model. Raises ModelError where it is not there or cannot do what is asked of it."""
        self._share = share_engine(
            self._model, device=self._device, compute=self._compute, threads=self._threads, workers=self._workers
        )
        loaded = self._share.value.model
        check_language(loaded, self._language)
        if self._phrases:
            self._expected = tuple(loaded.vocabulary.encode(f" {', '.join(self._phrases)}."))

    def configure(self, settings: dict[str, Any]) -> None:
        """Hear another language from the next turn on. Raises ModelError where the model does not know it."""
        language = settings.get("language", self._language)
        if self._share is not None:
            check_language(self._share.value.model, language)
        self._language = language

    def close(self) -> None:
        """Release the model. It is freed with its last user."""
        self._carry_out(self._hearing.abandon(), None)
        share, self._share = self._share, None
        if share is not None:
            share.release()

    def process(self, packet: Packet, ctx: Context) -> None:
        """Take a piece of speech."""
        speech = packet.payload
        assert isinstance(speech, Speech)
        require_mono(speech.audio, RATE)
        if packet.epoch != self._epoch or self._hearing.state is State.QUIET:
            self._carry_out(self._hearing.abandon(), None)
            self._audio = _Audio()
            self._epoch, self._start_ns, self._spoken = packet.epoch, packet.time, self._language
        self._audio.add(speech.audio.samples)
        self._collect(ctx)
        if speech.event is not SpeechEvent.END:
            behind = ctx.peek() is not None
            self._carry_out(self._hearing.heard(self._audio.end_ns, speech.silence_ns, behind), ctx)
            return
        self._carry_out(self._hearing.ended(self._audio.end_ns), ctx, speech.speech_end_ns)
        while self._hearing.state is State.CLOSING and not ctx.stale:
            self._collect(ctx, speech.speech_end_ns, wait=True)
        self._carry_out(self._hearing.abandon(), None)
        self._epoch = AMBIENT

    def _collect(self, ctx: Context, speech_end_ns: int | None = None, wait: bool = False) -> None:
        """Take what the engine has done; `wait`: for a moment, where it has not."""
        for number, (decode, job) in list(self._jobs.items()):
            if not job.done and not (wait and job.wait(_LOOK_S)):
                continue
            del self._jobs[number]
            try:
                found = job.result()
            except Exception as error:
                closing = self._hearing.state is State.CLOSING
                self._hearing.failed(number)
                self.counts["decodes_failed"] += 1
                if closing:
                    raise
                if not self._failing:
                    self._failing = True
                    why = f"{type(error).__name__}: {printable(error)}"
                    log.warning("a decode failed, and is made again until one is done: %s", why)
                continue
            self._failing = False
            if self._spoken == AUTO and (decode.whole or self._audio.end_ns >= _SURE_NS):
                self._spoken = found.language
            words = _spoken(found, decode.window_ns)
            took_ns = round(job.took_s * 1e9)
            heard_ns = decode.window_ns + round(job.heard_s * 1e9)
            self._carry_out(self._hearing.decoded(number, words, found.sure, took_ns, heard_ns), ctx, speech_end_ns)

    def _carry_out(self, actions: Sequence[Action], ctx: Context | None, speech_end_ns: int | None = None) -> None:
        for action in actions:
            match action:
                case Decode():
                    self._order(action, ctx)
                case Drop(number):
                    if number in self._jobs:
                        self._jobs.pop(number)[1].cancel()
                case Withdraw(number):
                    if number in self._jobs and not self._jobs[number][1].begun:
                        self._jobs.pop(number)[1].cancel()
                case Wait(number):
                    self._wait(number, ctx)
                case Forget(before_ns):
                    self._audio.forget(before_ns)
                case Show() | Final():
                    assert ctx is not None
                    if isinstance(action, Show) and action.trial:  # what may end the turn
                        language = "en" if self._task == "translate" else self._heard_language
                        words = Words(origin=ctx.name, epoch=self._epoch, text=action.text, language=language)
                        ctx.signal(words, Direction.UP)
                    if not (isinstance(action, Show) and action.again):
                        ctx.emit(self._transcript(action, speech_end_ns))

    def _order(self, decode: Decode, ctx: Context | None) -> None:
        assert self._share is not None
        audio, language = self._audio, self._spoken
        final = self._hearing.state is State.CLOSING

        def ask() -> DecodeRequest:
            return DecodeRequest(
                samples=audio.since(decode.window_ns),
                prefix=decode.prefix,
                previous=self._expected,
                language=language,
                task=self._task,
                at_least_s=_WHOLE_S if decode.whole else _GUESS_S,
                beam=self._beam if decode.whole else 1,
                careful=decode.whole,
            )

        job = self._share.value.order(ask, Urgency.FINAL if decode.whole else Urgency.PARTIAL)
        self._jobs[decode.number] = (decode, job)
        if decode.wait and not final:
            self._wait(decode.number, ctx)

    def _wait(self, number: int, ctx: Context | None) -> None:
        while number in self._jobs and ctx is not None and not ctx.stale:
            self._collect(ctx, wait=True)

    @property
    def _heard_language(self) -> str:
        return "" if self._spoken == AUTO else self._spoken

    def _transcript(self, said: Show | Final, speech_end_ns: int | None) -> Transcript:
        language = self._heard_language
        if isinstance(said, Show):
            return Transcript(
                text=said.text, final=False, stable_chars=said.stable_chars, trial=said.trial, language=language
            )
        text = text_of(said.words)
        words = tuple(
            Word(
                text=word.text.strip(),
                start_ns=self._start_ns + word.start_ns,
                end_ns=self._start_ns + word.end_ns,
                confidence=word.confidence,
            )
            for word in said.words
            if word.text.strip()
        )
        return Transcript(
            text=text,
            final=True,
            stable_chars=len(text),
            words=words,
            speech_end_ns=speech_end_ns,
            language=language,
        )

    def snapshot(self) -> dict[str, Any]:
        """Everything between two packets, in the middle of an utterance too. What is being decoded is decoded anew."""
        return {
            "epoch": self._epoch,
            "start_ns": self._start_ns,
            "language": self._spoken,
            "audio": self._audio.snapshot(),
            "hearing": self._hearing.snapshot(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._carry_out(self._hearing.abandon(), None)
        self._epoch, self._start_ns, self._spoken = state["epoch"], state["start_ns"], state["language"]
        self._audio = _Audio()
        self._audio.restore(state["audio"])
        self._hearing.restore(state["hearing"])


def _spoken(found: Hypothesis, window_ns: int) -> list[Spoken]:
    return [
        Spoken(
            word.text,
            word.tokens,
            window_ns + round(word.start_s * 1e9),
            window_ns + round(word.end_s * 1e9),
            word.confidence,
        )
        for word in found.words
    ]


class _Audio:
    """The audio of a turn, from where it is still needed. Written by the stage, read by the engine's threads."""

    def __init__(self) -> None:
        self._held: tuple[int, tuple[NDArray[np.float32], ...]] = (0, ())  # replaced, never changed: no lock is needed
        self._count = 0

    @property
    def end_ns(self) -> int:
        """How much has come, from the start of the turn."""
        return self._count * 1_000_000_000 // RATE

    def add(self, samples: NDArray[np.float32]) -> None:
        """The next piece."""
        start, pieces = self._held
        self._held = (start, (*pieces, samples))
        self._count += len(samples)

    def since(self, from_ns: int) -> NDArray[np.float32]:
        """Everything from there on."""
        start, pieces = self._held
        whole = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
        return whole[max(0, _samples(from_ns) - start) :]

    def forget(self, before_ns: int) -> None:
        """What lies before is not needed any more."""
        start, _ = self._held
        self._held = (max(start, _samples(before_ns)), (self.since(before_ns),))

    def snapshot(self) -> dict[str, Any]:
        """All that is held."""
        return {"start": self._held[0], "samples": self.since(0), "count": self._count}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._held = (state["start"], (np.asarray(state["samples"], np.float32),))
        self._count = state["count"]


def _samples(time_ns: int) -> int:
    return time_ns * RATE // 1_000_000_000
