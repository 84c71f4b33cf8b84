"""`.nemo` archives made here, with random weights and without NeMo: whole ones, and every way to spoil one."""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tests.conftest import require_package
from tests.models.speech import nemo_oracle
from thalweg.models.speech.fastconformer.config import FastConformerConfig
from thalweg.models.speech.fastconformer.nemo_archive import weight_shapes
from thalweg.models.speech.fastconformer.torch_file import Weights

TINY = FastConformerConfig(
    layers=2,
    width=64,
    heads=4,
    subsampling_width=32,
    scale_input=True,
    vocabulary=28,
    prediction_width=48,
    joint_width=40,
)
"""The configuration of `nemo_oracle.settings("hybrid")`."""


def random_weights(config: FastConformerConfig = TINY, seed: int = 0) -> Weights:
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in weight_shapes(config).items():
        scale = 1.0 / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.1
        offset = 1.0 if ("norm" in name and name.endswith("weight")) or name.endswith("running_var") else 0.0
        weights[name] = (rng.standard_normal(shape) * scale + offset).astype(np.float32)
    return weights


def settings(kind: str = "hybrid", **changes: Any) -> dict[str, Any]:
    """What NeMo writes into model_config.yaml."""
    targets = {
        "hybrid": "nemo.collections.asr.models.hybrid_rnnt_ctc_models.EncDecHybridRNNTCTCModel",
        "ctc": "nemo.collections.asr.models.ctc_models.EncDecCTCModel",
    }
    return nemo_oracle.settings(kind, **changes) | {"target": targets[kind]}


def torch_file(weights: Weights) -> bytes:
    """As `torch.save` writes it."""
    require_package("torch", "train")
    import torch

    out = io.BytesIO()
    torch.save({name: torch.from_numpy(value) for name, value in weights.items()}, out)
    return out.getvalue()


def zipped_pickle(description: bytes) -> bytes:
    """A weights file whose description is this pickle."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", description)
    return out.getvalue()


def executing_pickle(flag: Path) -> bytes:
    """A pickle that creates the file `flag` where it is believed."""

    class Evil:
        def __reduce__(self) -> Any:
            return (open, (str(flag), "w"))

    return pickle.dumps({"encoder.weight": Evil()})


def write_nemo(path: Path, config: dict[str, Any], weights: bytes, extra: dict[str, bytes] | None = None) -> Path:
    """A tar file of configuration, weights and other members by name."""
    members = {"./model_config.yaml": yaml.safe_dump(config).encode(), "./model_weights.ckpt": weights} | (extra or {})
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path
