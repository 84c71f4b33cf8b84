"""Finding and reading text with PP-OCRv4 through ONNX Runtime; weights come in the package `PACKAGE`.

Both networks are Apache-2.0 (PaddlePaddle/PaddleOCR).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.models.errors import ModelError

PACKAGE = "rapidocr-onnxruntime" if sys.version_info < (3, 13) else "rapidocr"
"""The first is at home up to Python 3.12; its successor has the same weights."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text: `score` 0…1 of the reading (of nothing but the finding, where `text` is empty), box in pixels."""

    text: str
    score: float
    x: float
    y: float
    width: float
    height: float


class TextReader:
    """Finds lines of text, and reads them. One thread; about 95 ms to find at 640×480 and 10 ms to read a line."""

    def __init__(self) -> None:
        try:
            self._read, self._find = _engine() if PACKAGE == "rapidocr-onnxruntime" else _successor()
        except ImportError:
            raise ModelError("reading text needs PP-OCR: pip install 'thalweg[video]'") from None

    def read(self, pixels: NDArray[np.uint8]) -> list[Line]:
        """Every line of `pixels` [height, width, 3] RGB, from the top; scores may be low, texts wrong."""
        return [Line(str(text), float(score), *_box(corners)) for corners, text, score in self._read(_bgr(pixels))]

    def find(self, pixels: NDArray[np.uint8], width: int | None = None) -> list[Line]:
        """Where there is text; looked for at `width` pixels across, which costs with its square."""
        factor = 1.0
        if width is not None and pixels.shape[1] > width:
            import cv2

            factor = pixels.shape[1] / width
            size = (width, max(1, round(pixels.shape[0] / factor)))
            pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
        if min(pixels.shape[:2]) < 8:
            return []
        corners = self._find(_bgr(pixels))
        boxes = [] if corners is None else [_box(corner) for corner in corners]
        return [Line("", 1.0, *(value * factor for value in box)) for box in boxes]


Read = Callable[[NDArray[np.uint8]], Iterable[tuple[Any, str, float]]]
Find = Callable[[NDArray[np.uint8]], Any]  # corners [box, 4, 2], or None


def _engine() -> tuple[Read, Find]:
    from rapidocr_onnxruntime import RapidOCR

    ocr: Any = RapidOCR(  # Any: untyped
        intra_op_num_threads=1, inter_op_num_threads=1, use_cls=False, text_score=0.0, det_limit_type="max"
    )
    return (
        lambda picture: ocr(picture, use_cls=False, box_thresh=0.5, text_score=0.0)[0] or [],
        lambda picture: ocr.text_det(picture)[0],
    )


def _successor() -> tuple[Read, Find]:
    from rapidocr import RapidOCR

    threads = {f"EngineConfig.onnxruntime.{kind}_op_num_threads": 1 for kind in ("intra", "inter")}
    plain = {"Global.use_cls": False, "Global.text_score": 0.0, "Global.log_level": "error"}
    ocr: Any = RapidOCR(params=threads | plain | {"Det.limit_type": "max"})

    def read(picture: NDArray[np.uint8]) -> Iterable[tuple[Any, str, float]]:
        found = ocr(picture, use_cls=False, box_thresh=0.5, text_score=0.0)
        boxes = getattr(found, "boxes", None)
        return [] if boxes is None else zip(boxes, found.txts or (), found.scores or (), strict=False)

    return read, lambda picture: ocr.text_det(picture).boxes


def _bgr(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(pixels[..., ::-1])


def _box(corners: Any) -> tuple[float, float, float, float]:
    points = np.asarray(corners, np.float64)
    (left, top), (right, bottom) = points.min(0), points.max(0)
    return float(left), float(top), float(right - left), float(bottom - top)
