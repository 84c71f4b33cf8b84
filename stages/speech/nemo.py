"""NeMo's own cache-aware streaming behind our interface: the oracle of the tests, and the choice where there is a GPU.

NeMo is driven as its examples drive it: features of the whole buffer that a chunk needs, `conformer_stream_step`, its
caches and hypotheses handed on from step to step.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from thalweg.models.speech.mel import MelConfig, MelStream
from thalweg.pipeline.duration import MS, Duration
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.packet import AMBIENT, Packet
from thalweg.pipeline.payload import Speech, SpeechEvent, Transcript
from thalweg.pipeline.stage import Context

_BEFORE = 9  # mel frames that NeMo prepends in place of a cache in its subsampler
_DROPPED = 2


class Nemo:
    """Recognises speech with NeMo (extra `nemo`): any of its streaming FastConformers, on a GPU if torch finds one.

    Features are computed in the stream as NeMo's preprocessor does; encoder, caches and decoding are NeMo's.
    """

    inputs = {"speech": Speech}
    outputs = {"transcript": Transcript}
    blocking = True

    def __init__(
        self,
        model: Annotated[str, Field(description=".nemo file, or a name that NeMo fetches")],
        lookahead: Annotated[
            Duration | None, Field(description="look-ahead of each chunk; default: the model's first")
        ] = None,
        device: Annotated[str, Field(description="torch device; auto: a GPU if there is one")] = "auto",
    ) -> None:
        self._name, self._lookahead_ns, self._device = model, lookahead, device
        self._chunk = 1
        self._first = True
        self._text = ""
        self._model: Any = None  # NeMo has no types
        self._torch: Any = None
        self._mel: MelStream | None = None
        self._epoch = AMBIENT
        self._partial = ""

    def open(self, ctx: Context) -> None:
        """Load the model. Raises ThalwegError where NeMo is missing or the model cannot stream so."""
        try:
            import torch
            from nemo.collections.asr.models import ASRModel
        except ImportError as error:
            raise ThalwegError(f"NeMo is not installed ({error.name}): pip install 'thalweg[nemo]'") from None
        self._torch = torch
        if self._device == "auto":
            self._device = "cuda" if torch.cuda.is_available() else "cpu"
        if self._name.endswith(".nemo"):
            model = ASRModel.restore_from(self._name, map_location=self._device)
        else:
            model = ASRModel.from_pretrained(self._name, map_location=self._device)
        self._model = model.eval()
        encoder = self._model.encoder
        sizes = getattr(encoder, "att_context_size_all", [])
        frame_ms = 8 * model.cfg.preprocessor.window_stride * 1000 if "window_stride" in model.cfg.preprocessor else 80
        if not sizes or sizes[0][1] < 0 or encoder.att_context_style != "chunked_limited":
            raise ThalwegError(f"{self._name} is no cache-aware streaming model of NeMo's")
        if self._lookahead_ns is not None:
            wanted = [size for size in sizes if size[1] * frame_ms == self._lookahead_ns / MS]
            if not wanted:
                trained = ", ".join(f"{size[1] * frame_ms:g}" for size in sizes)
                raise ThalwegError(
                    f"look-ahead {self._lookahead_ns / MS:g} ms, this model was trained for {trained} ms"
                )
            encoder.set_default_att_context_size(wanted[0])
        self._chunk = int(encoder.att_context_size[1]) + 1
        featurizer = self._model.preprocessor.featurizer
        self._mel = MelStream(
            MelConfig(
                sample_rate=self._model.cfg.preprocessor.get("sample_rate", 16_000),
                window_samples=featurizer.win_length,
                hop_samples=featurizer.hop_length,
                n_fft=featurizer.n_fft,
                n_mels=featurizer.nfilt,
                preemphasis=featurizer.preemph or 0.0,
                log_guard=featurizer.log_zero_guard_value,
            ),
            featurizer.fb[0].cpu().numpy(),
        )

    def process(self, packet: Packet, ctx: Context) -> None:
        """Take a piece of speech."""
        speech = packet.payload
        assert isinstance(speech, Speech) and self._mel is not None
        if speech.audio.rate != self._mel.config.sample_rate:
            raise ThalwegError(f"this model takes audio at {self._mel.config.sample_rate} Hz, got {speech.audio.rate}")
        if packet.epoch != self._epoch:
            self._start()
            self._epoch = packet.epoch
        self._hold(self._mel.feed(speech.audio.samples))
        last = speech.event is SpeechEvent.END
        if last:
            self._hold(self._mel.finish())
        while len(self._held) and (last or len(self._held) >= self._wanted):
            self._step(last and len(self._held) <= self._wanted)
        if last:
            self._epoch = AMBIENT
            text, end_ns = self._text, speech.speech_end_ns
            ctx.emit(Transcript(text=text, final=True, stable_chars=len(text), speech_end_ns=end_ns))
        elif self._text and self._text != self._partial:
            self._partial = self._text
            ctx.emit(Transcript(text=self._text, final=False))

    @property
    def _wanted(self) -> int:
        return 8 * self._chunk - (7 if self._first else 0)

    def _start(self) -> None:
        assert self._mel is not None
        self._mel.reset()
        bands = self._mel.config.n_mels
        self._held = np.zeros((0, bands), np.float32)
        self._before = np.zeros((_BEFORE, bands), np.float32)
        self._first, self._partial, self._text = True, "", ""
        self._caches = self._model.encoder.get_initial_cache_state(batch_size=1)
        self._hypotheses: Any = None
        self._predicted: Any = None

    def _hold(self, mel: NDArray[np.float32]) -> None:
        self._held = np.concatenate([self._held, mel])

    def _step(self, last: bool) -> None:
        count = min(self._wanted, len(self._held))
        piece, self._held = self._held[:count], self._held[count:]
        signal = piece if self._first else np.concatenate([self._before, piece])
        torch = self._torch
        with torch.inference_mode():
            found = self._model.conformer_stream_step(
                processed_signal=torch.from_numpy(signal.T.copy())[None].to(self._device),
                processed_signal_length=torch.tensor([len(signal)], device=self._device),
                cache_last_channel=self._caches[0],
                cache_last_time=self._caches[1],
                cache_last_channel_len=self._caches[2],
                keep_all_outputs=last,
                previous_hypotheses=self._hypotheses,
                previous_pred_out=self._predicted,
                drop_extra_pre_encoded=0 if self._first else _DROPPED,
                return_transcription=True,
            )
        self._predicted, texts, self._caches, self._hypotheses = found[0], found[1], found[2:5], found[5]
        self._before = np.concatenate([self._before, piece])[-_BEFORE:]
        self._first = False
        heard = texts[0]
        self._text = heard if isinstance(heard, str) else heard.text
