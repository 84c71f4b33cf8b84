"""From text to speech."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from thalweg.models.speech.piper import PiperVoice
from thalweg.models.store.sharing import Share
from thalweg.models.store.store import ModelStore
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import AudioChunk, Draft, Sentence, SpokenText
from thalweg.pipeline.stage import Context, Port
from thalweg.stages.speech.spoken import spoken

_AUDIBLE = 0.01


class SpeechSynthesisError(ThalwegError):
    """Speech that cannot be made."""


class Piper:
    """Synthesises speech with a Piper voice, sentence by sentence.

    The 40 to 70 ms of silence that Piper puts before a reply are removed. The speech of a draft is synthesised in
    advance and kept until the same text comes as a sentence, or another draft comes.
    """

    inputs = {"sentence": Sentence, "draft": Port(Draft, required=False)}
    outputs = {"audio": AudioChunk}
    blocking = True
    replicable = "stateless"  # with replicas `draft` cannot be connected: they take one edge

    def __init__(self, voice: Annotated[str, Field(description="name in the model store")] = "piper-en-us-joe") -> None:
        self._name = voice
        self._share: Share[PiperVoice] | None = None
        self._voice: PiperVoice | None = None
        self._made: tuple[str, list[NDArray[np.float32]]] = ("", [])
        self.counts: Counter[str] = Counter()

    def open(self, ctx: Context) -> None:
        """Load the voice, fetching it where needed, and let it say something once: the first time is the slowest."""
        store = ModelStore()
        files = store.pull(self._name)
        config = next((file for file in files if file.suffix == ".json"), None)
        model = next((file for file in files if file.suffix == ".onnx"), None)
        if model is None or config is None:
            raise SpeechSynthesisError(
                f"model {self._name} is no Piper voice: it needs an .onnx and an .onnx.json file"
            )
        try:
            self._share = Share(("piper", model), lambda: _warm(PiperVoice(model, config)))
        except ImportError:
            raise SpeechSynthesisError(
                "the package piper-tts is missing: pip install 'thalweg[piper]' (its licence is GPL-3.0-or-later)"
            ) from None
        self._voice = self._share.value

    def close(self) -> None:
        """Release the voice. It is freed with its last user."""
        if self._share is not None:
            self._share.release()

    def process(self, packet: Packet, ctx: Context) -> None:
        """Speak one sentence, unless an interrupt comes in between. A reply ends with a chunk marked `last`."""
        sentence = packet.payload
        assert self._voice is not None
        if isinstance(sentence, Draft):
            self._draft(sentence.text, ctx)
            return
        assert isinstance(sentence, Sentence)
        text = sentence.text
        for samples in self._speak(text, sentence.said):
            if ctx.stale:
                return
            if sentence.first and text:
                samples = _without_lead(samples, self._voice.rate)
            ctx.emit(SpokenText(samples=np.clip(samples, -1.0, 1.0), rate=self._voice.rate, text=text))
            text = ""
        if text and not ctx.stale:  # shown, though nothing of it is said
            ctx.emit(SpokenText(samples=np.zeros(0, np.float32), rate=self._voice.rate, text=text))
        if sentence.last:
            ctx.emit(SpokenText(samples=np.zeros(0, np.float32), rate=self._voice.rate, last=True))

    def _speak(self, text: str, said: str | None) -> Iterable[NDArray[np.float32]]:
        assert self._voice is not None
        known, made = self._made
        if text and text == known:
            self._made = ("", [])
            self.counts["drafted_pieces_used"] += 1
            return made
        said = spoken(text) if said is None else said
        return self._voice.speak(said) if said else ()

    def _draft(self, text: str, ctx: Context) -> None:
        """Get ready to say something, unless there is something to be said."""
        assert self._voice is not None
        if text == self._made[0] or ctx.peek("sentence") is not None:
            return
        made = []
        for samples in self._voice.speak(said) if (said := spoken(text)) else ():
            made.append(samples)
            if ctx.stale:
                return
        self._made = (text, made)
        self.counts["drafted_pieces"] += 1


def _warm(voice: PiperVoice) -> PiperVoice:
    for _ in voice.speak("Ready."):
        pass
    return voice


def _without_lead(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """From 5 ms before the first audible sample on."""
    audible = np.flatnonzero(np.abs(samples) > _AUDIBLE)
    return samples[max(0, int(audible[0]) - rate // 200) :] if len(audible) else samples
