"""NeMo's side of `thalweg bench asr`: the same weights, its cache-aware step in torch and its own ONNX export."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.deploy.bench.stopwatch import Stopwatch, Taken
from thalweg.models.fastconformer_config import FastConformerConfig

LETTERS = [" ", *"abcdefghijklmnopqrstuvwxyz'"]


def settings(config: FastConformerConfig) -> dict[str, Any]:
    """A hybrid character model of this shape, as NeMo configures it."""
    context = [[config.left, lookahead] for lookahead in config.lookaheads]
    classes = len(LETTERS)
    return {
        "sample_rate": 16_000,
        "labels": LETTERS,
        "model_defaults": {"enc_hidden": config.width, "pred_hidden": config.prediction_width},
        "preprocessor": {
            "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor",
            "normalize": "NA",
            "window_size": 0.025,
            "features": config.mel.n_mels,
            "n_fft": 512,
            "pad_to": 0,
        },
        "encoder": {
            "_target_": "nemo.collections.asr.modules.ConformerEncoder",
            "feat_in": config.mel.n_mels,
            "n_layers": config.layers,
            "d_model": config.width,
            "subsampling": "dw_striding",
            "subsampling_factor": 8,
            "subsampling_conv_channels": config.subsampling_width,
            "causal_downsampling": True,
            "self_attention_model": "rel_pos",
            "n_heads": config.heads,
            "att_context_size": context,
            "att_context_style": "chunked_limited",
            "xscaling": config.scale_input,
            "conv_kernel_size": config.kernel,
            "conv_norm_type": config.conv_norm,
            "conv_context_size": "causal",
        },
        "decoder": {
            "_target_": "nemo.collections.asr.modules.RNNTDecoder",
            "vocab_size": classes,
            "prednet": {"pred_hidden": config.prediction_width, "pred_rnn_layers": config.prediction_layers},
        },
        "joint": {
            "_target_": "nemo.collections.asr.modules.RNNTJoint",
            "num_classes": classes,
            "vocabulary": LETTERS,
            "jointnet": {
                "joint_hidden": config.joint_width,
                "activation": "relu",
                "encoder_hidden": config.width,
                "pred_hidden": config.prediction_width,
            },
        },
        "decoding": {"strategy": "greedy_batch", "greedy": {"max_symbols": 10}},
        "loss": {"loss_name": "default"},
        "aux_ctc": {
            "ctc_loss_weight": 0.3,
            "decoding": {"strategy": "greedy"},
            "decoder": {
                "_target_": "nemo.collections.asr.modules.ConvASRDecoder",
                "feat_in": config.width,
                "num_classes": classes,
                "vocabulary": LETTERS,
            },
        },
    }


class NemoPeer:
    """A NeMo model with random weights whose joint network says nothing but blank. One thread."""

    def __init__(self, config: FastConformerConfig) -> None:
        logging.disable(logging.WARNING)
        warnings.simplefilter("ignore")
        import torch
        from nemo.collections.asr.models import EncDecHybridRNNTCTCModel
        from omegaconf import OmegaConf

        torch.set_num_threads(1)
        torch.manual_seed(0)
        self._torch = torch
        self.config = config
        self.model: Any = EncDecHybridRNNTCTCModel(OmegaConf.create(settings(config))).eval()
        with torch.no_grad():
            self.model.joint.joint_net[-1].bias[-1] = 100.0

    def save(self, path: Path) -> None:
        """As `.nemo`."""
        self.model.save_to(str(path))

    def steps(self, lookahead: int, count: int, batch: int = 1, decode: bool = False) -> list[Taken]:
        """Each of `count` steps in the middle of a stream: of the encoder, or with RNN-T decoding."""
        torch, encoder = self._torch, self.model.encoder
        encoder.set_default_att_context_size([self.config.left, lookahead])
        caches = encoder.get_initial_cache_state(batch_size=batch)
        caches = (*caches[:2], torch.full((batch,), self.config.left))
        size = 8 * (lookahead + 1) + 9
        mel, length = torch.randn(batch, self.config.mel.n_mels, size), torch.full((batch,), size)
        hypotheses = None
        taken = []
        with torch.inference_mode():
            for _ in range(count):
                clock = Stopwatch()
                if decode:
                    found = self.model.conformer_stream_step(
                        processed_signal=mel,
                        processed_signal_length=length,
                        cache_last_channel=caches[0],
                        cache_last_time=caches[1],
                        cache_last_channel_len=caches[2],
                        keep_all_outputs=False,
                        previous_hypotheses=hypotheses,
                    )
                    caches, hypotheses = found[2:5], found[5]
                else:
                    caches = encoder.cache_aware_stream_step(
                        processed_signal=mel,
                        processed_signal_length=length,
                        cache_last_channel=caches[0],
                        cache_last_time=caches[1],
                        cache_last_channel_len=caches[2],
                        keep_all_outputs=False,
                    )[2:5]
                taken.append(clock.taken())
        return taken

    def features(self, seconds: float) -> Taken:
        """What the preprocessor takes for this much audio of one stream."""
        samples = self._torch.randn(1, int(16_000 * seconds))
        clock = Stopwatch()
        with self._torch.inference_mode():
            self.model.preprocessor(input_signal=samples, length=self._torch.tensor([samples.shape[1]]))
        return clock.taken()

    @property
    def stream_bytes(self) -> int:
        """What its caches take per stream."""
        config = self.config
        return 4 * config.layers * config.width * (config.left + config.kernel - 1)

    def export(self, path: Path, lookahead: int) -> NemoOnnx:
        """Its own ONNX export of the encoder with caches. Raises whatever the export raises."""
        encoder = self.model.encoder
        encoder.set_default_att_context_size([self.config.left, lookahead])
        encoder.export_cache_support = True
        try:
            encoder.export(str(path), check_trace=False, verbose=False)
        finally:
            encoder.export_cache_support = False
            encoder.eval()
        return NemoOnnx(path, self.config, lookahead)


class NemoOnnx:
    """NeMo's export in ONNX Runtime, one thread."""

    def __init__(self, path: Path, config: FastConformerConfig, lookahead: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        size = 8 * (lookahead + 1) + 9
        rng = np.random.default_rng(0)
        values: list[NDArray[Any]] = [
            rng.standard_normal((1, config.mel.n_mels, size)).astype(np.float32),
            np.array([size], np.int64),
            np.zeros((1, config.layers, config.left, config.width), np.float32),
            np.zeros((1, config.layers, config.width, config.kernel - 1), np.float32),
            np.array([config.left], np.int64),
        ]
        self._names = [each.name for each in self._session.get_inputs()]
        self._feeds = dict(zip(self._names, values, strict=True))

    def steps(self, count: int) -> list[Taken]:
        """Each of `count` steps."""
        taken = []
        for _ in range(count):
            clock = Stopwatch()
            found = self._session.run(None, self._feeds)
            self._feeds.update(zip(self._names[2:], found[2:], strict=True))
            taken.append(clock.taken())
        return taken
