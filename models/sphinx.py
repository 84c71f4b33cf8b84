"""CMU PocketSphinx with the English model its package carries (BSD-2-Clause)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
_FRAMES_PER_S = 100


@dataclass(frozen=True, slots=True)
class Heard:
    """A recognised word, `start_s` and `end_s` from the start of the utterance, `confidence` 0…1."""

    text: str
    start_s: float
    end_s: float
    confidence: float


class SphinxRecogniser:
    """Recognises one utterance at a time, sample by sample. Everything after `start` belongs to one utterance."""

    def __init__(self) -> None:
        from pocketsphinx import Decoder

        # Second and third passes find a few words more and cost a delay after the last sample that grows with
        # the utterance; a conversation cannot wait for them.
        self._decoder = Decoder(samprate=RATE, fwdflat=False, bestpath=False, loglevel="FATAL")

    def start(self) -> None:
        """Begin an utterance."""
        self._decoder.start_utt()

    def feed(self, samples: NDArray[np.float32]) -> None:
        """Take [time] float32 at 16 kHz."""
        pcm = np.clip(samples * 32768.0, -32768, 32767).astype(np.int16)
        if len(pcm):
            self._decoder.process_raw(pcm.tobytes(), no_search=False, full_utt=False)

    def partial(self) -> str:
        """The best guess at what was said so far."""
        hypothesis = self._decoder.hyp()
        return hypothesis.hypstr if hypothesis else ""

    def finish(self) -> tuple[str, list[Heard]]:
        """End the utterance: its text and its words."""
        self._decoder.end_utt()
        text = self.partial()
        words = [
            Heard(
                text=segment.word.split("(")[0],
                start_s=segment.start_frame / _FRAMES_PER_S,
                end_s=(segment.end_frame + 1) / _FRAMES_PER_S,
                confidence=min(1.0, float(np.exp(min(0.0, segment.prob)))) if segment.prob else 1.0,
            )
            for segment in (self._decoder.seg() or [])
            if not segment.word.startswith(("<", "["))
        ]
        return text, words
