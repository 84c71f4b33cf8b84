"""From text to speech."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from thalweg.models.speech.piper import PiperVoice, SpokenPiece
from thalweg.models.store.sharing import Share
from thalweg.models.store.store import ModelStore
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import AudioChunk, Draft, Sentence, SpokenText
from thalweg.pipeline.stage import Context, Port
from thalweg.stages.speech.spoken import spoken

DEFAULT = "piper-en-us-joe"
_AUDIBLE = 0.01


class SpeechSynthesisError(ThalwegError):
    """Speech that cannot be made."""


class Piper:
    """Synthesises speech with a Piper voice, sentence by sentence.

    The sound of a sentence is emitted while the rest of it is decoded, in pieces of 0.3 s and more, each with the words
    that are said in it.
    The 40 to 70 ms of silence that Piper puts before a reply are removed. The speech of a draft is synthesised in
    advance and kept until the same text comes as a sentence, or another draft comes; what is not made by then is made
    as it is said. A new `speed` or `voice` takes effect with the next sentence.
    """

    inputs = {"sentence": Sentence, "draft": Port(Draft, required=False)}
    outputs = {"audio": AudioChunk}
    configurable = ("speed", "voice")
    blocking = True
    replicable = "stateless"  # with replicas `draft` cannot be connected: they take one edge

    def __init__(
        self,
        voice: Annotated[str, Field(description="name in the model store")] = DEFAULT,
        speed: Annotated[float, Field(ge=0.5, le=2, description="speed of speech; 1: as the voice was trained")] = 1.0,
        voices: Annotated[
            tuple[str, ...],
            Field(max_length=16, description="further voices to load, so that `voice` can change while it runs"),
        ] = (),
    ) -> None:
        self._names = tuple(dict.fromkeys((voice, *voices)))
        self._shares: list[Share[PiperVoice]] = []
        self._voices: dict[str, PiperVoice] = {}
        self._manner = (voice, speed)
        self._made = _Made("", self._manner)
        self.counts: Counter[str] = Counter()

    def open(self, ctx: Context) -> None:
        """Load the voices, fetching them where needed; each says something once: the first time is the slowest."""
        for name in self._names:
            self._shares.append(self._load(name))
            self._voices[name] = self._shares[-1].value

    def _load(self, name: str) -> Share[PiperVoice]:
        files = ModelStore().pull(name)
        config = next((file for file in files if file.suffix == ".json"), None)
        model = next((file for file in files if file.suffix == ".onnx"), None)
        if model is None or config is None:
            raise SpeechSynthesisError(f"model {name} is no Piper voice: it needs an .onnx and an .onnx.json file")
        try:
            return Share(("piper", model), lambda: _warm(PiperVoice(model, config)))
        except ImportError:
            raise SpeechSynthesisError(
                "the package piper-tts is missing: pip install 'thalweg[piper]' (its licence is GPL-3.0-or-later)"
            ) from None

    def close(self) -> None:
        """Release the voices. Each is freed with its last user."""
        while self._shares:
            self._shares.pop().release()

    @staticmethod
    def may_become(arguments: Mapping[str, Any]) -> Mapping[str, Collection[str]]:
        """A voice that is loaded."""
        return {"voice": (arguments.get("voice", DEFAULT), *arguments.get("voices", ()))}

    def configure(self, settings: dict[str, Any]) -> None:
        """Takes effect with the next sentence. Raises SpeechSynthesisError on a voice that was not loaded."""
        voice, speed = settings.get("voice", self._manner[0]), settings.get("speed", self._manner[1])
        if voice not in self._names:
            raise SpeechSynthesisError(
                f"the voice {voice!r} is not one of {', '.join(self._names)}: name it in `voices`"
            )
        self._manner = (voice, speed)

    def process(self, packet: Packet, ctx: Context) -> None:
        """Speak one sentence, unless an interrupt comes in between. A reply ends with a chunk marked `last`."""
        sentence = packet.payload
        if isinstance(sentence, Draft):
            self._draft(sentence.text, ctx)
            return
        assert isinstance(sentence, Sentence)
        text, manner, leads = sentence.text, self._manner, sentence.first
        rate = self._voices[manner[0]].rate
        length = len(text)
        for piece in self._speak(text, sentence.said, manner):
            if ctx.stale:
                return
            samples = _without_lead(piece.samples, rate) if leads else piece.samples
            leads = False
            words, text = divided(text, length, piece.done)
            ctx.emit(SpokenText(samples=samples, rate=rate, text=words))
        if text and not ctx.stale:  # shown, though nothing of it is said
            ctx.emit(SpokenText(samples=np.zeros(0, np.float32), rate=rate, text=text))
        if sentence.last:
            ctx.emit(SpokenText(samples=np.zeros(0, np.float32), rate=rate, last=True))

    def _speak(self, text: str, said: str | None, manner: tuple[str, float]) -> Iterable[SpokenPiece]:
        made = self._made
        if text and text == made.text and manner == made.manner:
            self._made = _Made("", manner)
            self.counts["drafted_pieces_used"] += 1
            return chain(made.pieces, made.rest)
        said = spoken(text) if said is None else said
        voice, speed = manner
        return self._voices[voice].stream(said, speed=speed) if said else ()

    def _draft(self, text: str, ctx: Context) -> None:
        """Get ready to say something, until there is something to be said."""
        manner = self._manner
        if (text, manner) == (self._made.text, self._made.manner) or ctx.peek("sentence") is not None:
            return
        self._made = made = _Made(text, manner, rest=iter(self._speak("", spoken(text), manner)))
        self.counts["drafted_pieces"] += 1
        kept = False
        try:
            for piece in made.rest:
                made.pieces.append(piece)
                if ctx.stale or ctx.peek("sentence") is not None:
                    break
            kept = not ctx.stale
        finally:
            if not kept:  # nothing follows where its rest has failed
                self._made = _Made("", manner)


@dataclass(slots=True)
class _Made:
    """What a draft sounds like, in a manner: the pieces so far, and the rest, which is made as it is taken."""

    text: str
    manner: tuple[str, float]
    pieces: list[SpokenPiece] = field(default_factory=list)
    rest: Iterator[SpokenPiece] = field(default_factory=lambda: iter(()))


def divided(text: str, length: int, done: float) -> tuple[str, str]:
    """(words that were said, the rest) of the rest of a text of `length` characters, `done` (0…1) of which was said."""
    if done >= 1.0:
        return text, ""
    cut = text.rfind(" ", 0, max(0, round(length * done) - (length - len(text))) + 1)
    return (text[:cut].rstrip(), text[cut + 1 :]) if cut > 0 else ("", text)


def _warm(voice: PiperVoice) -> PiperVoice:
    voice.warm()
    return voice


def _without_lead(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """From 5 ms before the first audible sample on."""
    audible = np.flatnonzero(np.abs(samples) > _AUDIBLE)
    return samples[max(0, int(audible[0]) - rate // 200) :] if len(audible) else samples
