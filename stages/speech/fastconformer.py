"""Cache-aware streaming recognition: each chunk of audio is encoded once, and streaming equals offline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from thalweg.models.speech.decoding.ctc import CtcBeam, Phrases
from thalweg.models.speech.decoding.ngram import NGram
from thalweg.models.speech.endpoint import Endpoint
from thalweg.models.speech.fastconformer.deployed import lookahead_frames
from thalweg.models.speech.fastconformer.lookahead import AdaptiveLookahead
from thalweg.models.speech.loading import shared_recogniser
from thalweg.models.speech.recogniser import CtcDecoder, Recogniser, Stream
from thalweg.pipeline.duration import MS, Duration
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.packet import AMBIENT, Packet
from thalweg.pipeline.payload import Speech, SpeechEvent, Transcript
from thalweg.pipeline.signal import Direction, Flush
from thalweg.pipeline.stage import Context
from thalweg.stages.speech.transcripts import final_transcript, require_mono


class FastConformer:
    """Recognises speech with a cache-aware FastConformer, trained here or by NeMo, on ONNX Runtime.

    Emits a partial transcript whenever a chunk has changed it, and a final one at the end of the turn. Stages of one
    process with the same model share one engine, which processes chunks that are due at the same time in one batch.
    """

    inputs = {"speech": Speech}
    outputs = {"transcript": Transcript}
    blocking = True

    def __init__(
        self,
        model: Annotated[
            str,
            Field(description="a name of `thalweg models list`, a folder of `thalweg models convert` or a .nemo file"),
        ],
        lookahead: Annotated[
            Duration | None, Field(description="look-ahead of each chunk; default: the model's own")
        ] = None,
        head: Annotated[Literal["auto", "rnnt", "ctc"], Field(description="which head decodes")] = "auto",
        adaptive: Annotated[
            Duration, Field(description="adapt the look-ahead of each chunk, up to this; 0ms: fixed")
        ] = 0,
        beam: Annotated[int, Field(ge=1, description="prefixes kept, CTC only; 1 is greedy")] = 1,
        phrases: Annotated[tuple[str, ...], Field(description="phrases to expect; CTC with a beam")] = (),
        ngram: Annotated[Path | None, Field(description="ARPA file of words; CTC with a beam")] = None,
        endpoint: Annotated[
            bool, Field(description="end the turn early once voice and decoder are both silent")
        ] = False,
        threads: Annotated[int, Field(ge=1, description="threads of one engine")] = 1,
    ) -> None:
        self._model, self._lookahead_ns, self._head, self._threads = model, lookahead, head, threads
        self._adaptive_ns = adaptive
        self._beam, self._phrases, self._ngram_path = beam, phrases, ngram
        self._wants_endpoint = endpoint
        self._engine: Recogniser | None = None
        self._stream: Stream | None = None
        self._endpoint = Endpoint()
        self._epoch = AMBIENT
        self._start_ns = 0
        self._partial = ""

    def open(self, ctx: Context) -> None:
        """Load the model. Raises ModelError where it is not there or cannot do what is asked of it."""
        self._engine = shared_recogniser(self._model, self._threads)
        self._make_decoder: Callable[[], CtcDecoder] | None = None
        if self._beam > 1:
            tokens = self._engine.model.tokens
            boosts = Phrases(self._phrases) if self._phrases else None
            ngram = NGram.load(self._ngram_path) if self._ngram_path else None
            self._make_decoder = lambda: CtcBeam(tokens, width=self._beam, phrases=boosts, ngram=ngram)
        elif self._phrases or self._ngram_path:
            raise ThalwegError("phrases and ngram need `head: ctc` and a `beam` above 1")
        self._begin().close()

    def close(self) -> None:
        """Give the caches back."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _begin(self) -> Stream:
        assert self._engine is not None
        config = self._engine.model.config
        chosen = None if self._lookahead_ns is None else lookahead_frames(config, self._lookahead_ns / MS)
        adaptive = None
        if self._adaptive_ns:
            bound = self._adaptive_ns / MS
            adaptive = AdaptiveLookahead(config.lookaheads, frame_ms=config.frame_ms, bound_ms=bound)
        head = "ctc" if self._head == "auto" and self._make_decoder else self._head
        return self._engine.open(
            chosen, head=None if head == "auto" else head, ctc=self._make_decoder, adaptive=adaptive
        )

    def process(self, packet: Packet, ctx: Context) -> None:
        """Take a piece of speech."""
        speech = packet.payload
        assert isinstance(speech, Speech) and self._engine is not None
        rate = self._engine.model.config.mel.sample_rate
        require_mono(speech.audio, rate)
        if packet.epoch != self._epoch or self._stream is None:
            self.close()
            self._stream = self._begin()
            self._epoch, self._start_ns, self._partial = packet.epoch, packet.time, ""
            self._endpoint = Endpoint()
        self._hear(self._stream, speech.audio.samples, rate, ctx)
        if speech.event is SpeechEvent.END:
            final = self._stream.finish()
            self._stream, self._epoch = None, AMBIENT
            ctx.emit(final_transcript(final, self._start_ns, speech.speech_end_ns))
            return
        guess = self._stream.guess()
        if guess.text and guess.text != self._partial:
            self._partial = guess.text
            ctx.emit(Transcript(text=guess.text, final=False, stable_chars=guess.stable_chars))

    def _hear(self, stream: Stream, samples: NDArray[np.float32], rate: int, ctx: Context) -> None:
        stream.voice = not self._endpoint.quiet
        stream.feed(samples)
        since_ms = None
        if stream.decoder.emitted and self._engine is not None:
            since_ms = (stream.frames - stream.decoder.emitted[-1].frame) * self._engine.model.config.frame_ms
        if self._endpoint.update(samples, rate, since_ms) and self._wants_endpoint:
            ctx.signal(Flush(origin=ctx.name, epoch=self._epoch), Direction.UP)

    def snapshot(self) -> dict[str, Any]:
        """Everything between two packets, in the middle of an utterance too."""
        return {
            "epoch": self._epoch,
            "start_ns": self._start_ns,
            "partial": self._partial,
            "endpoint": self._endpoint.snapshot(),
            "stream": self._stream.snapshot() if self._stream else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self.close()
        self._epoch, self._start_ns, self._partial = state["epoch"], state["start_ns"], state["partial"]
        self._endpoint = Endpoint()
        self._endpoint.restore(state["endpoint"])
        if state["stream"] is not None:
            self._stream = self._begin()
            self._stream.restore(state["stream"])
