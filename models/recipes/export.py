"""Trained networks as the files of a bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


def state_arrays(net: nn.Module, prefix: str) -> dict[str, NDArray[np.float16]]:
    """A network's parameters as half precision, named `prefix.…`."""
    return {f"{prefix}.{name}": value.detach().numpy().astype(np.float16) for name, value in net.state_dict().items()}


def export_encoder(net: nn.Module, example: Tensor, path: Path, *, any_length: bool) -> None:
    """Write an encoder that takes one unit at a time; `any_length`: the unit's first axis may vary."""
    import onnx

    net.eval()
    axes = {"unit": {0: "batch", **({1: "length"} if any_length else {})}, "feature": {0: "batch"}}
    torch.onnx.export(
        net, (example,), str(path), input_names=["unit"], output_names=["feature"],
        dynamic_axes=axes, opset_version=17, dynamo=False,
    )  # fmt: skip
    onnx.checker.check_model(onnx.load(str(path)))


def write_bundle(folder: Path, about: dict[str, Any], weights: dict[str, NDArray[Any]]) -> None:
    """Write `bundle.json` and `weights.npz`; encoders and the card are written beside them by others."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "weights.npz", allow_pickle=False, **weights)
    (folder / "bundle.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
