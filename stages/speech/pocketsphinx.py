"""From speech to text, while it is spoken."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from thalweg.models.speech.decoding.hypothesis import RecognisedWord
from thalweg.models.speech.sphinx import SphinxRecogniser
from thalweg.models.speech.sphinx_process import SphinxProcess
from thalweg.pipeline.duration import MS, Duration
from thalweg.pipeline.packet import AMBIENT, Packet
from thalweg.pipeline.payload import Speech, SpeechEvent, Transcript, Word
from thalweg.pipeline.signal import Direction, Words
from thalweg.pipeline.stage import Context

_Final = tuple[str, list[RecognisedWord]]
_AGAIN_NS = 6_000 * MS


class StablePrefix:
    """How much of a growing transcript has stood still: the words that the last `rounds` guesses agree on."""

    def __init__(self, rounds: int = 3) -> None:
        self._rounds = rounds
        self._guesses: list[list[str]] = []

    def update(self, text: str) -> int:
        """Take the newest guess; returns how many leading characters of it are stable."""
        self._guesses = [*self._guesses[-self._rounds + 1 :], text.split(" ")]
        if len(self._guesses) < self._rounds:
            return 0
        agreed = 0
        for words in zip(*self._guesses, strict=False):
            if len(set(words)) > 1:
                break
            agreed += 1
        return min(len(text), len(" ".join(self._guesses[-1][:agreed])))


class PocketSphinx:
    """Recognises English speech with CMU PocketSphinx: small and light, for short, simple sentences.

    Emits a partial transcript whenever its hypothesis has changed, at most every `interval`, and a final one at the end
    of the turn. In each pause it computes the final transcript and emits that as a trial; if nothing more is said, the
    trial is the final one, without further work. Otherwise the turn so far is decoded again, which takes about a tenth
    of its length; after more than 6 s the trial is only the best partial hypothesis.
    """

    inputs = {"speech": Speech}
    outputs = {"transcript": Transcript}
    blocking = True

    def __init__(
        self,
        interval: Annotated[Duration, Field(description="shortest time between two partial transcripts")] = 100 * MS,
        apart: Annotated[
            bool, Field(description="run in a process of its own, so that other pipelines are not delayed")
        ] = False,
        trial_after: Annotated[
            Duration, Field(description="pause of the voice after which a trial transcript is computed; 0s: never")
        ] = 96 * MS,
    ) -> None:
        self._interval_ns = interval
        self._trial_after_ns = trial_after
        self._apart = apart
        self._recogniser: SphinxRecogniser | SphinxProcess | None = None
        self._epoch = AMBIENT
        self._start_ns = 0
        self._last_ns = 0
        self._partial = ""
        self._stable = StablePrefix()
        self._pieces: list[NDArray[np.float32]] = []
        self._trial: _Final | None = None
        self._tried = False

    def open(self, ctx: Context) -> None:
        """Load the recogniser."""
        self._recogniser = SphinxProcess() if self._apart else SphinxRecogniser()

    def close(self) -> None:
        """End the process, where there is one."""
        if isinstance(self._recogniser, SphinxProcess):
            self._recogniser.close()

    def snapshot(self) -> dict[str, Any] | None:
        """Between two turns there is nothing to keep; in the middle of one the recogniser's state cannot be had."""
        return {} if self._epoch == AMBIENT else None

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""

    def process(self, packet: Packet, ctx: Context) -> None:
        """Take a piece of speech."""
        speech = packet.payload
        assert isinstance(speech, Speech) and self._recogniser is not None
        if packet.epoch != self._epoch:
            self._begin(packet)
        self._feed(speech)
        if speech.event is SpeechEvent.END:
            text, words = self._trial or self._recogniser.finish()
            self._epoch = AMBIENT
            ctx.emit(
                Transcript(
                    text=text,
                    final=True,
                    stable_chars=len(text),
                    words=tuple(
                        Word(
                            text=word.text,
                            start_ns=self._start_ns + round(word.start_s * 1e9),
                            end_ns=self._start_ns + round(word.end_s * 1e9),
                            confidence=word.confidence,
                        )
                        for word in words
                    ),
                    speech_end_ns=speech.speech_end_ns,
                )
            )
        elif self._trial_after_ns and not self._tried and speech.silence_ns >= self._trial_after_ns:
            self._tried = True
            self._try(packet.time - self._start_ns, ctx)
        elif self._trial is None and packet.time - self._last_ns >= self._interval_ns:
            self._last_ns = packet.time
            text = self._recogniser.partial()
            stable = self._stable.update(text)
            if text and text != self._partial:
                self._partial = text
                ctx.emit(Transcript(text=text, final=False, stable_chars=stable))

    def _begin(self, packet: Packet) -> None:
        assert self._recogniser is not None
        if self._epoch != AMBIENT and self._trial is None:
            self._recogniser.finish()
        self._epoch = packet.epoch
        self._start_ns = self._last_ns = packet.time
        self._partial = ""
        self._stable = StablePrefix()
        self._pieces = []
        self._trial, self._tried = None, False
        self._recogniser.start()

    def _feed(self, speech: Speech) -> None:
        """Give the decoder its piece. It has none to take while a trial stands, and all of them once that falls."""
        assert self._recogniser is not None
        self._pieces.append(speech.audio.samples)
        if not speech.silence_ns:
            self._tried = False
        if self._trial is None:
            self._recogniser.feed(speech.audio.samples)
        elif not self._tried:
            self._trial = None
            self._recogniser.start()
            for piece in self._pieces:
                self._recogniser.feed(piece)

    def _try(self, spoken_ns: int, ctx: Context) -> None:
        assert self._recogniser is not None
        if spoken_ns <= _AGAIN_NS:
            self._trial = self._recogniser.finish()
            text = self._trial[0]
        else:
            text = self._recogniser.partial()
        if text:
            self._partial = text
            ctx.signal(Words(origin=ctx.name, epoch=self._epoch, text=text), Direction.UP)
            ctx.emit(Transcript(text=text, final=False, stable_chars=self._stable.update(text), trial=True))
