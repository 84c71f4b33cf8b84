"""One engine, many streams: speech recognition that encodes every frame once.

Theory of operation. A stream turns samples into mel frames on its caller's thread. Once it holds a whole chunk it is
due. The caller that fed the stream then runs the engine: all streams that are due at that moment, its own and those of
callers that wait, go through the encoder in one batch per look-ahead. A caller that gets its turn late finds its work
already done. There is no thread here and no timer, so no stream waits for a batch to fill.

What a stream returns depends on its own samples only: not on how they were cut, nor on who shared its batches.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from thalweg.models.errors import ModelError
from thalweg.models.speech.decoding.ctc import CtcGreedy
from thalweg.models.speech.decoding.hypothesis import Emitted, Guess, RecognisedWord, whole_words, words_of
from thalweg.models.speech.decoding.transducer import RnntDecoder, RnntState
from thalweg.models.speech.fastconformer.config import SUBSAMPLING
from thalweg.models.speech.fastconformer.deployed import Deployed
from thalweg.models.speech.fastconformer.encoder import LEAD, Chunk, Encoded, StreamingEncoder
from thalweg.models.speech.fastconformer.lookahead import AdaptiveLookahead
from thalweg.models.speech.mel import MelStream

Floats = NDArray[np.float32]


class CtcDecoder(Protocol):
    """What follows the CTC output of one stream: `CtcGreedy`, `CtcBeam`."""

    @property
    def emitted(self) -> list[Emitted]:
        """The best guess."""
        ...

    @property
    def stable_tokens(self) -> int:
        """How many leading tokens of it can no longer change."""
        ...

    def feed(self, log_probs: Floats, frame: int) -> None:
        """Take frames."""
        ...

    def snapshot(self) -> dict[str, Any]:
        """The state between two calls."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        ...


class Recogniser:
    """Streams over one deployed model. Safe to use from any thread; each stream by one thread at a time."""

    def __init__(self, model: Deployed, *, threads: int = 1, max_streams: int = 256, max_batch: int = 32) -> None:
        self.model = model
        self._encoder = StreamingEncoder(model, threads=threads, max_streams=max_streams)
        self._rnnt = RnntDecoder(model, threads) if model.config.rnnt else None
        self._max_batch = max_batch
        self._streams: list[Stream] = []
        self._inbox = threading.Lock()  # what streams hold; never held while computing
        self._turn = threading.Lock()  # the encoder and its caches

    @property
    def heads(self) -> tuple[str, ...]:
        """What may decode: "rnnt" first where there is one."""
        return ("rnnt",) * self.model.config.rnnt + ("ctc",) * self.model.config.ctc

    @property
    def stream_bytes(self) -> int:
        """Memory of one more stream's caches."""
        return self._encoder.stream_bytes

    @property
    def open_streams(self) -> int:
        """How many streams are open."""
        return len(self._streams)

    def open(
        self,
        lookahead: int | None = None,
        *,
        head: str | None = None,
        ctc: Callable[[], CtcDecoder] | None = None,
        adaptive: AdaptiveLookahead | None = None,
    ) -> Stream:
        """A new stream. `lookahead` in frames, the model's own by default; `ctc` makes the decoder of the CTC head.

        Raises ModelError where the model has no such head or look-ahead, or `max_streams` are open.
        """
        config = self.model.config
        head = head or self.heads[0]
        if head not in self.heads:
            raise ModelError(f"this model has no head {head!r}, it has {' and '.join(self.heads)}")
        chosen = self.model.lookahead if lookahead is None else lookahead
        if chosen not in config.lookaheads:
            raise ModelError(f"look-ahead {chosen}, this model was trained for {sorted(config.lookaheads)} frames")
        if head == "rnnt":
            assert self._rnnt is not None
            decoder: CtcDecoder | RnntState = self._rnnt.start()
        else:
            decoder = ctc() if ctc else CtcGreedy(config.vocabulary)
        with self._turn:
            slot = self._encoder.take_slot()
            try:
                stream = Stream(self, slot, chosen, decoder, adaptive)
            except BaseException:
                self._encoder.give_back(slot)
                raise
            with self._inbox:
                self._streams.append(stream)
        return stream

    def feed(self, pieces: Sequence[tuple[Stream, Floats]]) -> None:
        """Feed many streams at once, from one thread: what is due of all of them goes through together."""
        for stream, samples in pieces:
            stream.hold(samples)
        for stream, _ in pieces:
            self._advance(stream)

    def _close(self, stream: Stream) -> None:
        with self._turn, self._inbox:
            if stream in self._streams:
                self._streams.remove(stream)
                self._encoder.give_back(stream.slot)

    def _advance(self, stream: Stream, to_the_end: bool = False) -> None:
        """Decode what is due of a stream; `to_the_end`: what another thread has taken in hand of it, too."""
        if not (stream.due or to_the_end):
            return
        with self._turn:
            while True:
                with self._inbox:
                    if not stream.due:
                        return
                    size = stream.lookahead
                    others = [s for s in self._streams if s is not stream and s.due and s.lookahead == size]
                    batch = [stream, *others[: self._max_batch - 1]]
                    chunks = [each.next_chunk() for each in batch]
                self._step(batch, chunks, size)

    def _step(self, batch: Sequence[Stream], chunks: Sequence[Chunk], lookahead: int) -> None:
        asked = {name for stream in batch for name in stream.outputs}
        outputs = [name for name in ("ctc", "joint") if name in asked]
        found = self._encoder.step(chunks, lookahead, outputs)
        waiting: list[tuple[RnntState, Floats, int]] = []
        for stream, chunk, encoded in zip(batch, chunks, found, strict=True):
            if isinstance(stream.decoder, RnntState):
                assert encoded.joint is not None
                waiting.append((stream.decoder, encoded.joint, chunk.frames))
            else:
                assert encoded.ctc is not None
                stream.decoder.feed(encoded.ctc, chunk.frames)
        if waiting:
            assert self._rnnt is not None
            states, frames, firsts = zip(*waiting, strict=True)
            self._rnnt.feed(states, frames, firsts)
        for stream, encoded in zip(batch, found, strict=True):
            stream.advanced(encoded)


class Stream:
    """One utterance. `lookahead`: frames of the next chunk; it may be set, and takes effect at the next border."""

    def __init__(
        self,
        engine: Recogniser,
        slot: int,
        lookahead: int,
        decoder: CtcDecoder | RnntState,
        adaptive: AdaptiveLookahead | None,
    ) -> None:
        self._engine = engine
        self._mel = MelStream(engine.model.config.mel, engine.model.filters)
        self._pending: list[Floats] = []
        self._held = 0
        self._started = self._ending = self._closed = False
        self._adaptive = adaptive
        self.slot = slot
        self.lookahead = adaptive.lookahead if adaptive else lookahead
        self.decoder = decoder
        self.frames = 0
        self.chunks: list[int] = []
        self.voice = True

    @property
    def head(self) -> str:
        """Which head decodes this stream."""
        return "rnnt" if isinstance(self.decoder, RnntState) else "ctc"

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs of the encoder that this stream needs: an adaptive one takes its uncertainty from CTC."""
        unsure = self._adaptive is not None and self._engine.model.config.ctc
        return ("joint",) * (self.head == "rnnt") + ("ctc",) * (self.head == "ctc" or unsure)

    def feed(self, samples: Floats) -> None:
        """Take [time] float32 at the model's rate, and decode what that completes.

        Raises ModelError, and takes nothing, where a sample is not a finite number or the stream is closed.
        """
        self.hold(samples)
        self._engine._advance(self)

    def hold(self, samples: Floats) -> None:
        """As `feed`, but leave the decoding to the next caller that advances the engine."""
        self._take(self._mel.feed(samples))

    def finish(self) -> Guess:
        """The utterance has ended: decode all that is left of it, and close the stream."""
        self._take(self._mel.finish(), ending=True)
        self._engine._advance(self, to_the_end=True)
        guess = self.guess(final=True)
        self.close()
        return guess

    def close(self) -> None:
        """Give the caches back. Idempotent; nothing can be fed from then on."""
        self._closed = True
        self._engine._close(self)

    def guess(self, final: bool = False) -> Guess:
        """What was said so far; words only when `final`."""
        tokens, emitted = self._engine.model.tokens, self.decoder.emitted
        text = tokens.text([e.token for e in emitted])
        if final:
            return Guess(text, len(text), self.words())
        stable = emitted[: self.decoder.stable_tokens]
        finished = tokens.text([e.token for e in stable[: whole_words(stable, tokens)]])
        return Guess(text, min(len(text), len(finished)))

    def words(self) -> tuple[RecognisedWord, ...]:
        """The words so far, with times from the start of the stream."""
        model = self._engine.model
        return words_of(self.decoder.emitted, model.tokens, model.config.frame_ms / 1000)

    @property
    def due(self) -> bool:
        """Whether a whole chunk is there, or the rest of the utterance."""
        return self._held >= self._wanted or (self._ending and self._held > 0)

    @property
    def _wanted(self) -> int:
        return SUBSAMPLING * (self.lookahead + 1) - (0 if self._started else LEAD)

    def _take(self, mel: Floats, ending: bool = False) -> None:
        if self._closed:
            raise ModelError("this stream is closed: open another one")
        with self._engine._inbox:
            if len(mel):
                self._pending.append(mel)
                self._held += len(mel)
            self._ending = self._ending or ending

    def next_chunk(self) -> Chunk:
        """Take the frames of the next chunk out of what is held."""
        held = self._pending[0] if len(self._pending) == 1 else np.concatenate(self._pending)
        count = min(self._wanted, len(held))
        self._pending = [held[count:]] if count < len(held) else []
        self._held -= count
        chunk = Chunk(self.slot, held[:count], self.frames, 0 if self._started else LEAD)
        self._started = True
        return chunk

    def advanced(self, encoded: Encoded) -> None:
        """The chunk was decoded."""
        rows = encoded.ctc if encoded.ctc is not None else encoded.joint
        count = 0 if rows is None else len(rows)
        self.frames += count
        if self._adaptive is not None:
            self.chunks.append(count)
            self.lookahead = self._adaptive.update(uncertainty=self._uncertainty(encoded, count), voice=self.voice)

    def _uncertainty(self, encoded: Encoded, count: int) -> float:
        """Of this chunk: from the CTC output where there is one, else from the tokens that came of it."""
        if "ctc" in self.outputs and encoded.ctc is not None and count:
            return float(1 - np.exp(encoded.ctc.max(axis=1)).mean())
        recent = [e.log_prob for e in self.decoder.emitted[-8:] if e.frame >= self.frames - count]
        return float(1 - np.exp(np.mean(recent))) if recent else 0.0

    def snapshot(self) -> dict[str, Any]:
        """Everything between two calls, to go on elsewhere with the same model."""
        with self._engine._turn, self._engine._inbox:
            return {
                "mel": self._mel.snapshot(),
                "pending": [mel.copy() for mel in self._pending],
                "started": self._started,
                "frames": self.frames,
                "lookahead": self.lookahead,
                "chunks": list(self.chunks),
                "caches": self._engine._encoder.snapshot(self.slot),
                "head": self.head,
                "decoder": self.decoder.snapshot(),
                "adaptive": self._adaptive.snapshot() if self._adaptive else None,
            }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot, taken of a stream opened with the same options. Raises ModelError otherwise."""
        if state["head"] != self.head:
            raise ModelError(f"a snapshot of head {state['head']!r}, this stream decodes with {self.head!r}")
        with self._engine._turn, self._engine._inbox:
            self._engine._encoder.restore(self.slot, state["caches"])
            self._mel.restore(state["mel"])
            self._pending = [np.asarray(mel) for mel in state["pending"]]
            self._held = sum(len(mel) for mel in self._pending)
            self._started, self.frames = state["started"], state["frames"]
            self.lookahead, self.chunks = state["lookahead"], list(state["chunks"])
            self.decoder.restore(state["decoder"])
            if self._adaptive is not None and state["adaptive"] is not None:
                self._adaptive.restore(state["adaptive"])
