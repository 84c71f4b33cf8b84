"""The baseline: the same weights, without caches. A sliding buffer is encoded anew for every chunk.

For each chunk the encoder sees `left` frames before it, the chunk, and the look-ahead after it, all from scratch; the
rows of the chunk go to the decoder and the rest is thrown away. This is how recognisers that were not made for
streaming are streamed (the baseline of arXiv 2312.17279), and what the caches save.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from thalweg.models.speech.decoding.ctc import CtcGreedy
from thalweg.models.speech.decoding.hypothesis import Guess, whole_words, words_of
from thalweg.models.speech.decoding.transducer import RnntDecoder, RnntState
from thalweg.models.speech.fastconformer.config import SUBSAMPLING
from thalweg.models.speech.fastconformer.deployed import Deployed
from thalweg.models.speech.fastconformer.encoder import LEAD, Chunk, StreamingEncoder
from thalweg.models.speech.mel import MelStream

Floats = NDArray[np.float32]


class BufferedEncoder:
    """Encodes buffers from scratch, in the largest chunks the model knows."""

    def __init__(self, model: Deployed, threads: int = 1) -> None:
        self.model = model
        self._encoder = StreamingEncoder(model, threads=threads)

    def encode(self, mel: Floats, output: str) -> Floats:
        """[frame, mel] → the rows of one output (`ctc`, `joint`) for all of it."""
        lookahead = max(self.model.config.lookaheads)
        slot = self._encoder.take_slot()
        rows: list[Floats] = []
        at = frames = 0
        while at < len(mel):
            lead = LEAD if at == 0 else 0
            piece = mel[at : at + SUBSAMPLING * (lookahead + 1) - lead]
            (found,) = self._encoder.step([Chunk(slot, piece, frames, lead)], lookahead, (output,))
            part = found.ctc if output == "ctc" else found.joint
            assert part is not None
            rows.append(part)
            at += len(piece)
            frames += len(part)
        self._encoder.give_back(slot)
        return np.concatenate(rows)


class BufferedStream:
    """One utterance. `chunk`: frames decoded at a time; `left`, `right`: frames of context around them."""

    def __init__(
        self,
        encoder: BufferedEncoder,
        decoder: RnntDecoder | None,
        *,
        chunk: int = 2,
        left: int = 70,
        right: int = 1,
    ) -> None:
        model = encoder.model
        self._encoder, self._rnnt = encoder, decoder
        self._state: RnntState | CtcGreedy = decoder.start() if decoder else CtcGreedy(model.config.vocabulary)
        self._chunk, self._left, self._right = chunk, left, right
        self._mel = MelStream(model.config.mel, model.filters)
        self._held = np.zeros((0, model.config.mel.n_mels), np.float32)  # from encoder frame `_first` on
        self._first = 0
        self.frames = 0

    def feed(self, samples: Floats) -> None:
        """Take [time] float32. Raises ModelError where a sample is not a finite number."""
        self._hold(self._mel.feed(samples))
        while (self.frames + self._chunk + self._right - self._first) * SUBSAMPLING - LEAD <= len(self._held):
            self._decode(self._chunk)

    def finish(self) -> Guess:
        """The utterance has ended: decode the rest."""
        self._hold(self._mel.finish())
        total = self._first + -(-(len(self._held) + LEAD) // SUBSAMPLING) if len(self._held) else self.frames
        while self.frames < total:
            self._decode(min(self._chunk, total - self.frames))
        model, text = self._encoder.model, self.guess().text
        return Guess(text, len(text), words_of(self._state.emitted, model.tokens, model.config.frame_ms / 1000))

    def guess(self) -> Guess:
        """What was said so far."""
        tokens, emitted = self._encoder.model.tokens, self._state.emitted
        finished = tokens.text([e.token for e in emitted[: whole_words(emitted, tokens)]])
        return Guess(tokens.text([e.token for e in emitted]), len(finished))

    def _hold(self, mel: Floats) -> None:
        self._held = np.concatenate([self._held, mel])

    def _decode(self, count: int) -> None:
        stop = (self.frames + count + self._right - self._first) * SUBSAMPLING - LEAD
        rows = self._encoder.encode(self._held[:stop], "joint" if self._rnnt else "ctc")
        wanted = rows[self.frames - self._first : self.frames - self._first + count]
        if self._rnnt is not None:
            assert isinstance(self._state, RnntState)
            self._rnnt.feed([self._state], [wanted], [self.frames])
        else:
            assert isinstance(self._state, CtcGreedy)
            self._state.feed(wanted, self.frames)
        self.frames += count
        drop = self.frames - self._left - self._first
        if drop > 0:
            self._held = self._held[drop * SUBSAMPLING :]
            self._first += drop
