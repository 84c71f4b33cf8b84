"""Makes the bundle `avwords`."""

from __future__ import annotations

from pathlib import Path

import torch

from thalweg.models.recipes.avwords.degrade import CONDITIONS, Difficulty
from thalweg.models.recipes.avwords.task import CHUNKS_MS, SENSES, STRIDES, make_pool
from thalweg.models.recipes.avwords.words import WORDS
from thalweg.models.recipes.finish import finish
from thalweg.models.recipes.networks import CHANNELS, RATE, SIZES, AudioExport, AudioUnit
from thalweg.models.recipes.training import Network, train_in_two_rounds
from thalweg.models.senses.aggregation import AggregationConfig

WINDOW_MS = 960
FRAME_MS = 40


def make_bundle(folder: Path, clips: int, epochs: int) -> None:
    """Everything from nothing. Needs espeak-ng, flite and `thalweg[train]`; one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    pool = make_pool("train", clips, None, versions=2)
    network = Network(SENSES, len(WORDS), AggregationConfig(CHANNELS))
    train_in_two_rounds(network, pool, epochs)
    torch.save(network.state_dict(), folder / "network.pt")
    finish_bundle(network, folder)


def finish_bundle(network: Network, folder: Path) -> None:
    """Everything after the network itself."""
    about = {
        "name": "avwords",
        "classes": [word.text for word in WORDS],
        "kinds": [word.kind.value for word in WORDS],
        "modalities": {
            "audio": {"sizes": SIZES, "units_ms": CHUNKS_MS, "window_ms": WINDOW_MS, "join": "concatenate"},
            "video": {
                "sizes": SIZES,
                "units_ms": [FRAME_MS * stride for stride in STRIDES],
                "window_ms": WINDOW_MS,
                "join": "pick",
            },
        },
    }
    audio, video = network.encoders["audio"], network.encoders["video"]
    assert isinstance(audio, torch.nn.ModuleDict) and isinstance(video, torch.nn.ModuleDict)
    heard: dict[str, torch.nn.Module] = {}
    for size in SIZES:
        unit = audio[size]
        assert isinstance(unit, AudioUnit)
        heard[size] = AudioExport(unit)
    examples: dict[str, tuple[dict[str, torch.nn.Module], torch.Tensor, bool]] = {
        "audio": (heard, torch.zeros(1, RATE * CHUNKS_MS[0] // 1000), True),
        "video": (dict(video.items()), torch.zeros(1, 32, 32, dtype=torch.uint8), False),
    }
    pool = make_pool("train", 2720, None)
    held_out = make_pool("val", 2040, None, seed=1)
    calibration = [make_pool("val", 1020, Difficulty(*d), seed=2) for d in CONDITIONS.values()]
    finish(network, folder, about, examples, pool, held_out, calibration, "video")
