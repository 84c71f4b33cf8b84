"""NeMo's side of `thalweg bench asr`: the same weights, its cache-aware step in torch, its own ONNX export, and its
streaming pipeline for many streams (`nemo.collections.asr.inference`).
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.deploy.bench.stopwatch import Stopwatch, Taken
from thalweg.models.errors import ModelError
from thalweg.models.recipes.asr.corpus.text import Sentences
from thalweg.models.speech.fastconformer.config import FastConformerConfig
from thalweg.models.speech.fastconformer.torch_file import Weights

RATE = 16_000


def tokenizer(folder: Path, vocabulary: int) -> Path:
    """A SentencePiece model with so many pieces of the recipe's sentences, as NeMo wants it; returns its folder."""
    import sentencepiece

    sentences = Sentences(None, None, seed=0)
    folder.mkdir(exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([sentences.next() for _ in range(3000)]),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=vocabulary,
        model_type="bpe",
        minloglevel=2,
    )
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    (folder / "vocab.txt").write_text("\n".join(pieces.id_to_piece(i) for i in range(vocabulary)), encoding="utf-8")
    return folder


def settings(config: FastConformerConfig, tokens: Path) -> dict[str, Any]:
    """A hybrid BPE model of this shape, as NeMo configures it; `tokens`: its tokenizer's folder."""
    context = [[config.left, lookahead] for lookahead in config.lookaheads]
    mel = config.mel
    return {
        "sample_rate": mel.sample_rate,
        "tokenizer": {"dir": str(tokens), "type": "bpe"},
        "model_defaults": {"enc_hidden": config.width, "pred_hidden": config.prediction_width},
        "preprocessor": {
            "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor",
            "sample_rate": mel.sample_rate,
            "normalize": "NA",
            "window_size": mel.window_samples / mel.sample_rate,
            "window_stride": mel.hop_samples / mel.sample_rate,
            "window": mel.window,
            "features": mel.n_mels,
            "n_fft": mel.n_fft,
            "log": True,
            "pad_to": 0,
        },
        "encoder": {
            "_target_": "nemo.collections.asr.modules.ConformerEncoder",
            "feat_in": mel.n_mels,
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
            "ff_expansion_factor": config.ff_factor,
            "use_bias": config.bias,
            "conv_kernel_size": config.kernel,
            "conv_norm_type": config.conv_norm,
            "conv_context_size": "causal",
        },
        "decoder": {
            "_target_": "nemo.collections.asr.modules.RNNTDecoder",
            "vocab_size": -1,
            "prednet": {"pred_hidden": config.prediction_width, "pred_rnn_layers": config.prediction_layers},
        },
        "joint": {
            "_target_": "nemo.collections.asr.modules.RNNTJoint",
            "num_classes": -1,
            "vocabulary": [],
            "jointnet": {
                "joint_hidden": config.joint_width,
                "activation": config.joint_activation,
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
                "num_classes": -1,
                "vocabulary": [],
            },
        },
    }


class NemoPeer:
    """A NeMo model, one thread, with both heads even where ours has one. Its weights are random and its joint network
    says nothing but blank until `load` gives it others.
    """

    def __init__(self, config: FastConformerConfig, folder: Path) -> None:
        """`folder`: where its tokenizer may lie."""
        logging.disable(logging.WARNING)
        warnings.simplefilter("ignore")
        import torch
        from nemo.collections.asr.models import EncDecHybridRNNTCTCBPEModel
        from omegaconf import OmegaConf

        torch.set_num_threads(1)
        torch.manual_seed(0)
        self._torch = torch
        self.config = config
        shape = settings(config, tokenizer(folder / "tokenizer", config.vocabulary))
        self.model: Any = EncDecHybridRNNTCTCBPEModel(OmegaConf.create(shape)).eval()
        with torch.no_grad():
            self.model.joint.joint_net[-1].bias[-1] = 100.0

    def load(self, weights: Weights) -> None:
        """Take the weights of `FastConformer`, which go by NeMo's names. Raises ModelError where one is missing."""
        theirs = self.model.state_dict()
        output = next(name for name in theirs if name.startswith("joint.joint_net.") and name.endswith(".weight"))
        ours = {
            name.replace("joint.joint_net.2.", output.removesuffix("weight")): self._torch.from_numpy(value)
            for name, value in weights.items()
            if name != "mel_filters"
        }
        heads = ("ctc_decoder.",) * self.config.ctc + ("decoder.", "joint.") * self.config.rnnt
        missing = [name for name in theirs if name.startswith(("encoder.", *heads)) and name not in ours]
        if [name for name in missing if not name.endswith("num_batches_tracked")]:
            raise ModelError(f"NeMo's model has a weight that ours has not: {missing[0]}")
        self.model.load_state_dict(theirs | ours)

    def save(self, path: Path) -> None:
        """As `.nemo`."""
        self.model.save_to(str(path))

    def steps(self, lookahead: int, count: int) -> list[Taken]:
        """Each of `count` steps of the encoder in the middle of a stream."""
        torch, encoder = self._torch, self.model.encoder
        encoder.set_default_att_context_size([self.config.left, lookahead])
        caches = encoder.get_initial_cache_state(batch_size=1)
        caches = (*caches[:2], torch.full((1,), self.config.left))
        size = 8 * (lookahead + 1) + 9
        mel, length = torch.randn(1, self.config.mel.n_mels, size), torch.full((1,), size)
        taken = []
        with torch.inference_mode():
            for _ in range(count):
                clock = Stopwatch()
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

    @property
    def stream_bytes(self) -> int:
        """What its caches take per stream."""
        config = self.config
        return 4 * config.layers * config.width * (config.left + config.kernel - 1)

    def export(self, path: Path, lookahead: int) -> NemoOnnx:
        """Its own ONNX export of the encoder with caches. The export may raise any exception."""
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
