"""Encoders of single units through ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.models.errors import ModelError
from thalweg.models.store.onnx import open_session


class UnitEncoder:
    """A network that turns one unit into a feature. Stateless; one thread, so that a unit's cost is its own."""

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise ModelError("unit encoders need ONNX Runtime: pip install 'thalweg[multimodal]'") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session: Any = open_session(path, options)
        given = self._session.get_inputs()[0]
        self._name: str = given.name
        self._shape: list[Any] = given.shape[1:]
        self._dtype = np.dtype(np.float32 if given.type == "tensor(float)" else np.uint8)

    def __call__(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """One unit [...] → [channel] float32. Raises ModelError on a unit of another shape than it was trained on."""
        wanted = [n if isinstance(n, int) else None for n in self._shape]
        if len(values.shape) != len(wanted) or any(
            n not in (None, m) for n, m in zip(wanted, values.shape, strict=True)
        ):
            raise ModelError(f"a unit has shape {list(values.shape)}, the encoder takes {wanted}")
        feature: NDArray[np.float32] = self._session.run(None, {self._name: values[None].astype(self._dtype)})[0][0]
        return feature
