"""The baseline recogniser: a FastConformer that encodes a sliding buffer anew for every chunk."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from thalweg.models.speech.decoding.transducer import RnntDecoder
from thalweg.models.speech.fastconformer.buffered import BufferedEncoder, BufferedStream
from thalweg.models.speech.loading import load_deployed
from thalweg.pipeline.duration import MS, Duration
from thalweg.pipeline.packet import AMBIENT, Packet
from thalweg.pipeline.payload import Speech, SpeechEvent, Transcript
from thalweg.pipeline.stage import Context
from thalweg.stages.speech.transcripts import final_transcript, require_mono


class Buffered:
    """Recognises speech by encoding a sliding buffer again for every chunk: a baseline for `speech.fastconformer`.

    The same weights at many times the cost: for comparison, not for use.
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
        chunk: Annotated[
            Duration, Field(description="length of audio decoded at a time, in whole encoder frames")
        ] = 160 * MS,
        left: Annotated[Duration, Field(description="context encoded again before each chunk")] = 5_600 * MS,
        right: Annotated[Duration, Field(description="look-ahead after each chunk")] = 80 * MS,
        threads: Annotated[int, Field(ge=1, description="threads of the encoder")] = 1,
    ) -> None:
        self._model, self._threads = model, threads
        self._durations_ns = (chunk, left, right)
        self._encoder: BufferedEncoder | None = None
        self._rnnt: RnntDecoder | None = None
        self._stream: BufferedStream | None = None
        self._epoch = AMBIENT
        self._start_ns = 0
        self._partial = ""

    def open(self, ctx: Context) -> None:
        """Load the model."""
        deployed = load_deployed(self._model)
        self._encoder = BufferedEncoder(deployed, self._threads)
        self._rnnt = RnntDecoder(deployed, self._threads) if deployed.config.rnnt else None

    def process(self, packet: Packet, ctx: Context) -> None:
        """Take a piece of speech."""
        speech = packet.payload
        assert isinstance(speech, Speech) and self._encoder is not None
        config = self._encoder.model.config
        require_mono(speech.audio, config.mel.sample_rate)
        if packet.epoch != self._epoch or self._stream is None:
            chunk, left, right = (max(0, round(d / MS / config.frame_ms)) for d in self._durations_ns)
            self._stream = BufferedStream(self._encoder, self._rnnt, chunk=max(1, chunk), left=left, right=right)
            self._epoch, self._start_ns, self._partial = packet.epoch, packet.time, ""
        self._stream.feed(speech.audio.samples)
        if speech.event is SpeechEvent.END:
            final = self._stream.finish()
            self._stream, self._epoch = None, AMBIENT
            ctx.emit(final_transcript(final, self._start_ns, speech.speech_end_ns))
            return
        guess = self._stream.guess()
        if guess.text and guess.text != self._partial:
            self._partial = guess.text
            ctx.emit(Transcript(text=guess.text, final=False, stable_chars=guess.stable_chars))
