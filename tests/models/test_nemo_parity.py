"""NeMo 3.0 is the oracle: the same weights, exported by NeMo itself, give the same numbers and the same text."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import require_package
from tests.models import nemo_oracle
from thalweg.models.mel import MelConfig, log_mel, mel_filters
from thalweg.models.nemo_archive import Checkpoint, read_nemo

pytestmark = pytest.mark.filterwarnings("ignore")  # NeMo's own
LOOKAHEADS = (13, 6, 1, 0)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_package("nemo", "nemo")
    return tmp_path_factory.mktemp("nemo")


@pytest.fixture(scope="session")
def hybrid(folder: Path) -> tuple[Any, Checkpoint]:
    """A small hybrid model with random weights: NeMo's own, and what we read of its archive."""
    model = nemo_oracle.make("hybrid")
    model.save_to(str(folder / "hybrid.nemo"))
    return model, read_nemo(folder / "hybrid.nemo")


def speechlike(seconds: float, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    samples = int(seconds * 16_000)
    knots = np.arange(0, samples + 1600, 1600)
    loudness = np.interp(np.arange(samples), knots, rng.random(len(knots)))
    return (rng.standard_normal(samples) * 0.2 * loudness**2).astype(np.float32)


def test_features_are_those_of_nemos_preprocessor(hybrid: tuple[Any, Checkpoint]) -> None:
    import torch

    model, checkpoint = hybrid
    audio = speechlike(3.217)
    with torch.no_grad():
        expected, length = model.preprocessor(
            input_signal=torch.from_numpy(audio)[None], length=torch.tensor([len(audio)])
        )
    found = log_mel(audio, checkpoint.config.mel)
    assert len(found) == int(length)
    assert np.abs(found - expected[0].numpy().T[: len(found)]).max() < 2e-4


@pytest.mark.parametrize("normalize", ["NA", "per_feature"])
@pytest.mark.parametrize("window", ["hann", "hamming"])
def test_features_follow_the_configuration(folder: Path, normalize: str, window: str) -> None:
    import torch
    from nemo.collections.asr.modules import AudioToMelSpectrogramPreprocessor

    theirs = AudioToMelSpectrogramPreprocessor(
        normalize=normalize, window=window, window_size=0.02, features=64, lowfreq=50, preemph=0.9, pad_to=0, dither=0.0
    ).eval()
    audio = speechlike(2.0)
    expected, length = theirs(input_signal=torch.from_numpy(audio)[None], length=torch.tensor([len(audio)]))
    config = MelConfig(window_samples=320, n_mels=64, window=window, low_hz=50, preemphasis=0.9, normalize=normalize)
    assert np.abs(log_mel(audio, config) - expected[0].numpy().T[: int(length)]).max() < 5e-4
    assert np.abs(mel_filters(config) - theirs.filter_banks[0].numpy()).max() < 1e-7


@pytest.mark.parametrize("lookahead", LOOKAHEADS)
def test_the_torch_network_is_nemos_encoder(hybrid: tuple[Any, Checkpoint], lookahead: int) -> None:
    import torch

    from thalweg.models.fastconformer import FastConformer

    model, checkpoint = hybrid
    network = FastConformer(checkpoint.config).eval()
    network.load_state_dict({k: torch.from_numpy(v) for k, v in checkpoint.weights.items() if k != "mel_filters"})
    mel = torch.randn(2, 1500, 80, generator=torch.manual_seed(0)) * 3 - 8
    lengths = torch.tensor([1500, 1033])
    model.encoder.set_default_att_context_size([70, lookahead])
    with torch.no_grad():
        expected, expected_lengths = model.encoder(audio_signal=mel.transpose(1, 2), length=lengths)
        found, found_lengths = network.encode(mel, lengths, [lookahead + 1])
    assert found_lengths.tolist() == expected_lengths.tolist()
    for i, n in enumerate(found_lengths.tolist()):
        assert (found[i, :n] - expected[i, :, :n].T).abs().max() < 1e-4


def test_nemo_is_here_where_everything_is_required() -> None:
    require_package("nemo", "nemo")
    assert importlib.util.find_spec("nemo")
