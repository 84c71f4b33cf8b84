"""Small deployed recognisers with random weights, and the whole-utterance computation they are held against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.conftest import require_package
from tests.models.speech.archives import TINY, random_weights
from thalweg.models.speech.decoding.tokens import Tokens
from thalweg.models.speech.fastconformer.config import FastConformerConfig
from thalweg.models.speech.fastconformer.deployed import Deployed, convert
from thalweg.models.speech.fastconformer.nemo_archive import NemoCheckpoint
from thalweg.models.speech.mel import log_mel

LETTERS = Tokens(tuple(" abcdefghijklmnopqrstuvwxyz'"), characters=True)
Floats = NDArray[np.float32]


def deploy(folder: Path, config: FastConformerConfig = TINY, *, int8: bool = False, seed: int = 0) -> Deployed:
    """A deployed model with random weights that emits tokens now and then."""
    require_package("onnx", "convert")
    require_package("onnxruntime", "asr")
    return convert(NemoCheckpoint(config, LETTERS, lively_weights(config, seed)), folder, int8=int8)


def lively_weights(config: FastConformerConfig, seed: int = 0) -> dict[str, Floats]:
    """Random weights whose heads are undecided enough to emit blanks and tokens."""
    weights = random_weights(config, seed)
    for name in ("ctc_decoder.decoder_layers.0.weight", "joint.joint_net.2.weight"):
        if name in weights:
            weights[name] *= 3
    for name in ("ctc_decoder.decoder_layers.0.bias", "joint.joint_net.2.bias"):
        if name in weights:
            weights[name][-1] = 2.5
    return weights


class Offline:
    """The torch network over whole utterances."""

    def __init__(self, config: FastConformerConfig = TINY, seed: int = 0) -> None:
        require_package("torch", "train")
        import torch

        from thalweg.models.speech.fastconformer.network import FastConformer

        self.config = config
        self._torch = torch
        self.network: Any = FastConformer(config).eval()
        weights = lively_weights(config, seed)
        self.network.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})

    def encode(self, audio: Floats, chunks: list[int]) -> tuple[Floats, Floats]:
        """`encoded` and CTC log probabilities of all frames."""
        mel = self._torch.from_numpy(log_mel(audio, self.config.mel))[None]
        with self._torch.no_grad():
            encoded, count = self.network.encode(mel, self._torch.tensor([mel.shape[1]]), chunks)
            log_probs = self.network.ctc_log_probs(encoded)
        return encoded[0, : int(count)].numpy(), log_probs[0, : int(count)].numpy()


def speechlike(seconds: float, seed: int = 0) -> Floats:
    """Noise that swells and fades."""
    rng = np.random.default_rng(seed)
    samples = int(seconds * 16_000)
    knots = np.arange(0, samples + 1600, 1600)
    loudness = np.interp(np.arange(samples), knots, rng.random(len(knots)))
    return (rng.standard_normal(samples) * 0.2 * loudness**2).astype(np.float32)
