"""A multimodal model as it is shipped: a folder of unit encoders, aggregation, fusion, gate and predictor.

bundle.json     classes; per modality its sizes, unit lengths and window; what the gate was calibrated to
NAME_SIZE.onnx  an encoder per modality and size
weights.npz     everything else, float16, under `aggregation.NAME.…`, `fusion.…`, `gate.…`, `predictor.…`
CARD.md         where it comes from, what it can do, where it fails
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.models.errors import ModelError
from thalweg.models.senses.incremental import Aggregation, FusionHead, Mlp, softmax
from thalweg.models.senses.unit_encoder import UnitEncoder
from thalweg.models.store.arrays import read_arrays
from thalweg.models.store.bounded import read_json_at_most

BUNDLED = ("avwords", "vehicle")


@dataclass(frozen=True, slots=True)
class ModalityInfo:
    """`sizes`: smallest first. `units_ms`: lengths of a unit it was trained on. `window_ms`: of a whole sample.

    `join`: how the sensor's ticks become longer units, `concatenate` (audio) or `pick` (one frame of several).
    """

    sizes: tuple[str, ...]
    units_ms: tuple[int, ...]
    window_ms: int
    join: str
    without: float


class Bundle:
    """Loads the parts as they are asked for. Raises ModelError on a folder that is not a bundle."""

    def __init__(self, name: str) -> None:
        self.folder = Path(str(files("thalweg.models").joinpath("weights", name))) if name in BUNDLED else Path(name)
        try:
            self._about: dict[str, Any] = read_json_at_most(self.folder / "bundle.json")
        except (OSError, ValueError) as error:
            raise ModelError(f"{name} is no multimodal model ({error}); bundled are: {', '.join(BUNDLED)}") from None
        self.classes: tuple[str, ...] = tuple(self._about["classes"])
        self.modalities: dict[str, ModalityInfo] = {
            name: ModalityInfo(
                tuple(m["sizes"]), tuple(m["units_ms"]), m["window_ms"], m["join"], m.get("without", 1.0)
            )
            for name, m in self._about["modalities"].items()
        }
        self.threshold: float = self._about.get("gate", {}).get("threshold", 1.01)

    def encoder(self, modality: str, size: str) -> UnitEncoder:
        """The encoder of that size."""
        self._expect(modality)
        if size not in self.modalities[modality].sizes:
            raise ModelError(f"{modality} has no encoder {size!r}; it has {', '.join(self.modalities[modality].sizes)}")
        return _encoder(self.folder / f"{modality}_{size}.onnx")

    def aggregation(self, modality: str, variant: str = "aggregation") -> Aggregation:
        """The weights that aggregate the modality's units; `pooling` is the plain mean in its place."""
        self._expect(modality)
        return Aggregation(self._part(f"{variant}.{modality}"), shift=variant == "aggregation")

    def fusion(self, variant: str = "fusion") -> FusionHead:
        """The fusion of all modalities; `pooling_fusion` goes with `pooling`."""
        return FusionHead(self._part(variant), tuple(self.modalities))

    @cached_property
    def gate(self) -> Mlp | None:
        """Whether enough has been seen; see `gate_input`. None where the bundle has none."""
        weights = self._part("gate")
        return Mlp(weights) if weights else None

    @cached_property
    def predictor(self) -> Mlp | None:
        """How likely a configuration is right, from the first units; None where the bundle has none."""
        weights = self._part("predictor")
        return Mlp(weights) if weights else None

    def _expect(self, modality: str) -> None:
        if modality not in self.modalities:
            raise ModelError(f"the model knows no {modality!r}; it knows {', '.join(self.modalities)}")

    @cached_property
    def _weights(self) -> dict[str, NDArray[np.float32]]:
        try:
            held = read_arrays(self.folder / "weights.npz")
            return {name: array.astype(np.float32) for name, array in held.items()}
        except (OSError, ValueError) as error:
            raise ModelError(f"the weights of {self.folder.name} cannot be read: {error}") from None

    def _part(self, name: str) -> dict[str, NDArray[np.float32]]:
        return {k.removeprefix(f"{name}."): v for k, v in self._weights.items() if k.startswith(f"{name}.")}


@lru_cache(64)
def _encoder(path: Path) -> UnitEncoder:
    """Encoders have no state, so that all stages of a process can share them."""
    return UnitEncoder(path)


@lru_cache(16)
def load_bundle(name: str) -> Bundle:
    """A bundle, shared by all callers in this process. Raises ModelError."""
    return Bundle(name)


def gate_input(
    modalities: Sequence[str],
    pooled: Mapping[str, NDArray[np.float32]],
    seen: Mapping[str, float],
    logits: NDArray[np.float32],
) -> NDArray[np.float32]:
    """What the gate looks at: every modality's vector (zeros where absent), the share seen of each, and how sure
    the fused decision is by now: best probability, its lead over the second, entropy (0…1)."""
    channels = len(next(iter(pooled.values())))
    vectors = [pooled.get(m, np.zeros(channels, np.float32)) for m in modalities]
    shares = np.array([seen.get(m, 0.0) for m in modalities], np.float32)
    probabilities = softmax(logits)
    second, best = np.partition(probabilities, -2)[-2:]
    entropy = -(probabilities * np.log(probabilities + 1e-9)).sum() / np.log(len(probabilities))
    return np.concatenate([*vectors, shares, np.array([best, best - second, entropy], np.float32)])
