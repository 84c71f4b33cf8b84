"""Patch relevance with an open CLIP-family model: which part of a picture is near to words.

The weights are the user's own, as two ONNX files and a tokeniser beside each other in a folder:

    visual.onnx     [1, 3, size, size] float32 → [1, patches, dimension], patch embeddings in the space of the text
    text.onnx       [1, words] int64 → [1, dimension]
    tokenizer.json  of the `tokenizers` library

Such files come of exporting, say, OpenCLIP or SigLIP with the patch tokens taken through the final norm and projection.
No weights are shipped, and none were at hand where this was written: it is tested on a small network of the same form.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.models.errors import ModelError
from thalweg.models.store.onnx import open_session
from thalweg.models.vision.detectors import Found

_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
_DEVIATION = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
_STANDS_OUT = 1.0


class PatchRelevance:
    """Finds patches whose embedding is nearer to the words than those of the rest of the picture."""

    def __init__(self, folder: Path) -> None:
        try:
            import onnxruntime
            from tokenizers import Tokenizer
        except ImportError as error:
            raise ModelError(f"patch relevance needs {error.name}: pip install 'thalweg[clip]'") from None
        for name in ("visual.onnx", "text.onnx", "tokenizer.json"):
            if not (folder / name).exists():
                raise ModelError(f"{folder} has no {name}; models/vision/clip.py says what belongs there")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._visual, self._text = (open_session(folder / name, options) for name in ("visual.onnx", "text.onnx"))
        self._tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        side = self._visual.get_inputs()[0].shape[-1]
        self._side = side if isinstance(side, int) else 224
        self._words: NDArray[np.float32] | None = None

    def hear(self, words: str) -> None:
        """What to look for."""
        ids = np.array([self._tokenizer.encode(words).ids or [0]], np.int64)
        self._words = _unit(self._text.run(None, {self._text.get_inputs()[0].name: ids})[0][0])

    def find(self, pixels: NDArray[np.uint8]) -> list[Found]:
        """Boxes in pixels; none before any words were heard, or where nothing stands out."""
        import cv2

        if self._words is None:
            return []
        small = cv2.resize(np.ascontiguousarray(pixels), (self._side, self._side), interpolation=cv2.INTER_AREA)
        batch = ((small.astype(np.float32) / 255 - _MEAN) / _DEVIATION).transpose(2, 0, 1)[None]  # [1, 3, side, side]
        patches = _unit(
            self._visual.run(None, {self._visual.get_inputs()[0].name: batch})[0][0]
        )  # [patches, dimension]
        near = patches @ self._words
        side = math.isqrt(len(near))
        near = near[len(near) - side * side :].reshape(side, side)  # a class token may come first
        spread = float(near.std())
        if spread < 1e-6:
            return []
        score = (near - near.mean()) / spread
        height, width = pixels.shape[:2]
        count, labels, stats, _ = cv2.connectedComponentsWithStats((score > _STANDS_OUT).astype(np.uint8))
        found = []
        for label in range(1, count):
            x, y, w, h = (int(v) for v in stats[label][:4])
            best = float(score[labels == label].max())
            box = (x * width / side, y * height / side, w * width / side, h * height / side)
            found.append(Found(*box, min(1.0, best / 3)))
        return sorted(found, key=lambda one: -one.score)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(vectors / np.maximum(1e-9, np.linalg.norm(vectors, axis=-1, keepdims=True)), np.float32)
