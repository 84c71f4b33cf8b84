"""What recognisers that run a network of ours share: which audio they take, and how a guess becomes a transcript."""

from __future__ import annotations

from thalweg.models.speech.decoding.hypothesis import Guess
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.payload import AudioChunk, Transcript, Word


def require_mono(audio: AudioChunk, rate: int) -> None:
    """Raises ThalwegError unless `audio` is [time] at `rate` samples per second."""
    if audio.rate != rate or audio.samples.ndim != 1:
        raise ThalwegError(
            f"this recogniser takes mono audio at {rate} Hz, got {audio.rate} Hz, "
            f"shape {audio.samples.shape}: set `rate: {rate}` at the source"
        )


def final_transcript(guess: Guess, start_ns: int, speech_end_ns: int | None) -> Transcript:
    """The last guess of an utterance that began at `start_ns`, with word times in capture time."""
    words = tuple(
        Word(
            text=word.text,
            start_ns=start_ns + round(word.start_s * 1e9),
            end_ns=start_ns + round(word.end_s * 1e9),
            confidence=word.confidence,
        )
        for word in guess.words
    )
    text = guess.text
    return Transcript(text=text, final=True, stable_chars=len(text), words=words, speech_end_ns=speech_end_ns)
