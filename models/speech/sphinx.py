"""CMU PocketSphinx with the English model its package carries (BSD-2-Clause)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from thalweg.models.speech.decoding.hypothesis import RecognisedWord

RATE = 16_000
_FRAMES_PER_S = 100
_SLICE_BYTES = RATE // 25  # 20 ms
_OPENING_BYTES = RATE  # half a second of 16-bit samples


class SphinxRecogniser:
    """Recognises one utterance at a time, sample by sample. Everything after `start` belongs to one utterance."""

    def __init__(self) -> None:
        from pocketsphinx import Decoder

        # On 20 synthesized questions the lattice pass (bestpath) takes the word error rate from 0.18 to 0.16 for
        # 1 ms after the last sample; the flat-lexicon pass (fwdflat) gains nothing and takes 35 ms.
        self._decoder = Decoder(samprate=RATE, fwdflat=False, bestpath=True, loglevel="FATAL")
        self._opening: bytes | None = b""

    def start(self) -> None:
        """Begin an utterance."""
        self._decoder.start_utt()

    def feed(self, samples: NDArray[np.float32]) -> None:
        """Take [time] float32 at 16 kHz."""
        pcm = np.clip(samples * 32768.0, -32768, 32767).astype(np.int16).tobytes()
        if self._opening is None:
            self._search(pcm)
            return
        self._opening += pcm
        if len(self._opening) >= _OPENING_BYTES:
            self._settle()

    def _settle(self) -> None:
        """Learn the level of this voice from its first words before searching them.

        The features are normalised by a running mean that starts from a guess and is corrected after each
        utterance, so the first utterance of a session used to be the worst.
        """
        opening, self._opening = self._opening, None
        assert opening is not None
        if opening:
            self._decoder.process_raw(opening, no_search=True, full_utt=False)
            self._decoder.end_utt()
            self._decoder.start_utt()
            self._search(opening)

    def _search(self, pcm: bytes) -> None:
        for start in range(0, len(pcm), _SLICE_BYTES):  # the decoder keeps the interpreter to itself while it works
            self._decoder.process_raw(pcm[start : start + _SLICE_BYTES], no_search=False, full_utt=False)

    def partial(self) -> str:
        """The best guess at what was said so far."""
        hypothesis = self._decoder.hyp()
        return hypothesis.hypstr if hypothesis else ""

    def finish(self) -> tuple[str, list[RecognisedWord]]:
        """End the utterance: its text and its words."""
        if self._opening is not None:
            self._settle()
        self._decoder.end_utt()
        text = self.partial()
        words = [
            RecognisedWord(
                text=segment.word.split("(")[0],
                start_s=segment.start_frame / _FRAMES_PER_S,
                end_s=(segment.end_frame + 1) / _FRAMES_PER_S,
                confidence=min(1.0, float(np.exp(min(0.0, segment.prob)))) if segment.prob else 1.0,
            )
            for segment in (self._decoder.seg() or [])
            if not segment.word.startswith(("<", "["))
        ]
        return text, words
