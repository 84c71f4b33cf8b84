"""Small NeMo models with random weights, saved as `.nemo` by NeMo itself: the oracle of the parity tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

LETTERS = [" ", *"abcdefghijklmnopqrstuvwxyzé"]  # no apostrophe: NeMo takes out a space before punctuation
PREPROCESSOR = {
    "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor",
    "sample_rate": 16_000,
    "normalize": "NA",
    "window_size": 0.025,
    "window_stride": 0.01,
    "window": "hann",
    "features": 80,
    "n_fft": 512,
    "log": True,
    "frame_splicing": 1,
    "dither": 1e-5,
    "pad_to": 0,
}


def encoder(width: int = 64, layers: int = 2, heads: int = 4, **changes: Any) -> dict[str, Any]:
    return {
        "_target_": "nemo.collections.asr.modules.ConformerEncoder",
        "feat_in": 80,
        "feat_out": -1,
        "n_layers": layers,
        "d_model": width,
        "use_bias": True,
        "subsampling": "dw_striding",
        "subsampling_factor": 8,
        "subsampling_conv_channels": 32,
        "causal_downsampling": True,
        "ff_expansion_factor": 4,
        "self_attention_model": "rel_pos",
        "n_heads": heads,
        "att_context_size": [[70, 13], [70, 6], [70, 1], [70, 0]],
        "att_context_style": "chunked_limited",
        "xscaling": True,
        "untie_biases": True,
        "pos_emb_max_len": 5000,
        "conv_kernel_size": 9,
        "conv_norm_type": "layer_norm",
        "conv_context_size": "causal",
        "dropout": 0.1,
        "dropout_pre_encoder": 0.1,
        "dropout_emb": 0.0,
        "dropout_att": 0.1,
        **changes,
    }


def settings(kind: str, tokenizer_dir: Path | None = None, **changes: Any) -> dict[str, Any]:
    """Configuration of a model: `kind` is ctc, rnnt or hybrid; a tokenizer folder makes it a BPE model."""
    enc = encoder(**changes)
    vocabulary = -1 if tokenizer_dir else len(LETTERS)
    ctc = {
        "_target_": "nemo.collections.asr.modules.ConvASRDecoder",
        "feat_in": enc["d_model"],
        "num_classes": vocabulary,
        "vocabulary": [] if tokenizer_dir else LETTERS,
    }
    found: dict[str, Any] = {
        "sample_rate": 16_000,
        "labels": LETTERS,
        "model_defaults": {"enc_hidden": enc["d_model"], "pred_hidden": 48, "joint_hidden": 40},
        "preprocessor": PREPROCESSOR,
        "encoder": enc,
        "optim": None,
    }
    if tokenizer_dir:
        del found["labels"]
        found["tokenizer"] = {"dir": str(tokenizer_dir), "type": "bpe"}
    if kind == "ctc":
        return found | {"decoder": ctc, "decoding": {"strategy": "greedy"}}
    found |= {
        "decoder": {
            "_target_": "nemo.collections.asr.modules.RNNTDecoder",
            "normalization_mode": None,
            "random_state_sampling": False,
            "blank_as_pad": True,
            "vocab_size": vocabulary,
            "prednet": {"pred_hidden": 48, "pred_rnn_layers": 1, "t_max": None, "dropout": 0.0},
        },
        "joint": {
            "_target_": "nemo.collections.asr.modules.RNNTJoint",
            "log_softmax": None,
            "preserve_memory": False,
            "fuse_loss_wer": False,
            "num_classes": vocabulary,
            "vocabulary": [] if tokenizer_dir else LETTERS,
            "jointnet": {
                "joint_hidden": 40,
                "activation": "relu",
                "dropout": 0.2,
                "encoder_hidden": enc["d_model"],
                "pred_hidden": 48,
            },
        },
        "decoding": {"strategy": "greedy_batch", "greedy": {"max_symbols": 10}},
        "loss": {"loss_name": "default"},
    }
    if kind == "hybrid":
        found["aux_ctc"] = {"ctc_loss_weight": 0.3, "decoder": ctc, "decoding": {"strategy": "greedy"}}
    return found


def make(kind: str, tokenizer_dir: Path | None = None, seed: int = 0, **changes: Any) -> Any:
    """A NeMo model with random weights, in evaluation mode."""
    import torch
    from nemo.collections.asr import models
    from omegaconf import OmegaConf

    classes = {
        ("ctc", False): models.EncDecCTCModel,
        ("ctc", True): models.EncDecCTCModelBPE,
        ("rnnt", False): models.EncDecRNNTModel,
        ("rnnt", True): models.EncDecRNNTBPEModel,
        ("hybrid", False): models.EncDecHybridRNNTCTCModel,
        ("hybrid", True): models.EncDecHybridRNNTCTCBPEModel,
    }
    torch.manual_seed(seed)
    model = classes[kind, tokenizer_dir is not None](OmegaConf.create(settings(kind, tokenizer_dir, **changes)))
    for name, parameter in model.named_parameters():
        if "pos_bias" in name or "norm" in name:
            torch.nn.init.normal_(parameter, 1.0 if name.endswith("weight") else 0.0, 0.3)
    return model.eval()
