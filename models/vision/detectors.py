"""Detectors that need no weights of their own, or only such as come inside OpenCV: cheap guesses at where to look.

Each takes RGB pixels [height, width, 3] uint8 and gives boxes in pixels with a score 0…1, best first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thalweg.models.errors import ModelError

Pixels = NDArray[np.uint8]
_SMALL = 160
_ACROSS = 1280


class Found(NamedTuple):
    """A box in pixels and how sure it is."""

    x: float
    y: float
    width: float
    height: float
    score: float


class Shift:
    """How the camera moves: by how much the picture shifts from frame to frame (phase correlation). About 1 ms."""

    def __init__(self) -> None:
        self._last: NDArray[np.float32] | None = None

    def between(self, pixels: Pixels) -> tuple[float, float]:
        """Shares of its width and height by which the picture has moved right and down since the last call.

        Nothing where that cannot be seen, as at a cut, on the first frame or after the size changed.
        """
        small, _ = _gray(pixels)
        last, self._last = self._last, small
        dx, dy = _shift(last, small)
        return dx / small.shape[1], dy / small.shape[0]


class Motion:
    """What moves against the picture as a whole: the camera's own shift is taken out first. Remembers one frame."""

    def __init__(self) -> None:
        self._last: NDArray[np.float32] | None = None
        self.shift = (0.0, 0.0)

    def find(self, pixels: Pixels) -> list[Found]:
        """Boxes of what moved since the last frame; none on the first one or after the size changed.

        `shift` is then the camera's: by how many pixels the picture has moved right and down.
        """
        import cv2

        small, factor = _gray(pixels)
        last, self._last, self.shift = self._last, small, (0.0, 0.0)
        if last is None or last.shape != small.shape or min(small.shape) < 8:
            return []
        dx, dy = _shift(last, small)
        self.shift = (dx * factor, dy * factor)
        moved = cv2.warpAffine(
            last, np.array([[1, 0, dx], [0, 1, dy]], np.float32), small.shape[::-1], borderMode=cv2.BORDER_REPLICATE
        )
        change = cv2.GaussianBlur(np.abs(small - moved), (9, 9), 0)
        edge = int(max(abs(dx), abs(dy))) + 2
        change[:edge] = change[-edge:] = change[:, :edge] = change[:, -edge:] = 0
        threshold = max(8.0, float(change.mean() + 3 * change.std()))
        return _blobs(change, threshold, factor, 48.0)


def salient(pixels: Pixels) -> list[Found]:
    """What stands out from the rest: spectral residual (Hou and Zhang, CVPR 2007)."""
    import cv2

    small, factor = _gray(pixels)
    if min(small.shape) < 8:
        return []
    shrink = 64 / small.shape[1]
    tiny = cv2.resize(small, (64, max(8, round(small.shape[0] * shrink))), interpolation=cv2.INTER_AREA)
    spectrum = np.fft.fft2(tiny)
    amplitude = np.log(np.abs(spectrum) + 1e-6)
    residual = amplitude - cv2.blur(amplitude, (3, 3))
    saliency = np.abs(np.fft.ifft2(np.exp(residual + 1j * np.angle(spectrum)))) ** 2
    smooth = cv2.GaussianBlur(saliency.astype(np.float32), (9, 9), 2.5)
    top = float(smooth.max())
    if top <= 0:
        return []
    return _blobs(smooth / top * 255, 96.0, factor / shrink, 255.0)


_HUES = {
    "red": ((0, 10), (170, 180)),
    "orange": ((10, 22),),
    "yellow": ((22, 35),),
    "green": ((35, 85),),
    "cyan": ((85, 98),),
    "blue": ((98, 130),),
    "purple": ((130, 155),),
    "pink": ((150, 172),),
}


def coloured(pixels: Pixels, name: str) -> list[Found]:
    """Patches of a named colour; none for a name that is not known."""
    small, factor = _shrunk(pixels)
    mask = colour_mask(small, name)
    return [] if mask is None else _blobs(mask.astype(np.float32) * 255, 128.0, factor, 255.0)


def colour_share(pixels: Pixels, name: str) -> float:
    """Share 0…1 of a picture that has a named colour; 0 for a name that is not known."""
    mask = colour_mask(pixels, name) if pixels.size else None
    return 0.0 if mask is None else float(mask.mean())


def colour_mask(pixels: Pixels, name: str) -> NDArray[np.bool_] | None:
    """[height, width]: where a picture has a named colour; None for a name that is not known."""
    import cv2

    hue, saturation, value = cv2.split(cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2HSV))
    if name in _HUES:
        mask = np.zeros(hue.shape, bool)
        for low, high in _HUES[name]:
            mask |= (hue >= low) & (hue < high)
        return np.asarray(mask & (saturation > 90) & (value > 60))
    if name in ("white", "gray", "black"):
        low, high = {"white": (180, 256), "gray": (80, 180), "black": (0, 60)}[name]
        return np.asarray(((saturation < 60) | (value < 40)) & (value >= low) & (value < high))
    if name == "brown":
        return np.asarray((hue >= 5) & (hue < 22) & (saturation > 60) & (value > 30) & (value < 150))
    return None


class Faces:
    """Frontal faces by OpenCV's Haar cascade (Viola and Jones). About 25 ms at 640×480."""

    def __init__(self) -> None:
        import cv2

        # Haar cascades and the people detector left OpenCV with version 5.
        found = getattr(cv2, "CascadeClassifier", None)
        if found is None:
            raise ModelError("finding faces needs OpenCV 4: pip install 'opencv-python<5'")
        folder = Path(cv2.data.haarcascades)
        self._cascade: Any = found(str(folder / "haarcascade_frontalface_default.xml"))

    def find(self, pixels: Pixels) -> list[Found]:
        """Faces from 24 pixels on."""
        import cv2

        gray = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
        boxes = self._cascade.detectMultiScale(gray, scaleFactor=1.1, minNeighbors=5, minSize=(24, 24))
        return [Found(float(x), float(y), float(w), float(h), 0.9) for x, y, w, h in boxes]


class People:
    """Upright people by histograms of oriented gradients (Dalal and Triggs), OpenCV's own weights. About 130 ms.

    The picture is enlarged to about 1280 pixels across, or people of less than 100 pixels would not be found.
    """

    def __init__(self) -> None:
        import cv2

        found = getattr(cv2, "HOGDescriptor", None)
        if found is None:
            raise ModelError("finding people needs OpenCV 4: pip install 'opencv-python<5'")
        self._hog: Any = found()
        self._hog.setSVMDetector(cv2.HOGDescriptor_getDefaultPeopleDetector())

    def find(self, pixels: Pixels) -> list[Found]:
        """People from about 50 pixels on where 640 are across; of those that overlap by a third, the surest."""
        import cv2

        factor = min(4.0, max(1.0, _ACROSS / pixels.shape[1]))
        shown = cv2.resize(np.ascontiguousarray(pixels), None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
        if shown.shape[0] < 128 or shown.shape[1] < 64:
            return []
        boxes, weights = self._hog.detectMultiScale(
            shown, winStride=(8, 8), padding=(8, 8), scale=1.1, hitThreshold=0.4, groupThreshold=0
        )
        scores = np.ravel(weights)
        if not len(scores):
            return []
        kept = cv2.dnn.NMSBoxes([[int(v) for v in box] for box in boxes], scores.tolist(), 0.0, 0.3)
        return [
            Found(x / factor, y / factor, w / factor, h / factor, float(1 / (1 + np.exp(-4 * (scores[i] - 0.5)))))
            for i in np.ravel(kept).astype(int)
            for x, y, w, h in [boxes[i].tolist()]
        ]


def _shrunk(pixels: Pixels) -> tuple[Pixels, float]:
    import cv2

    height, width = pixels.shape[:2]
    factor = max(1.0, width / _SMALL)
    size = (max(1, round(width / factor)), max(1, round(height / factor)))
    return np.asarray(cv2.resize(np.ascontiguousarray(pixels), size, interpolation=cv2.INTER_AREA), np.uint8), factor


def _gray(pixels: Pixels) -> tuple[NDArray[np.float32], float]:
    small, factor = _shrunk(pixels)
    return np.asarray(small @ np.array([0.299, 0.587, 0.114], np.float32), np.float32), factor


def _shift(last: NDArray[np.float32] | None, small: NDArray[np.float32]) -> tuple[float, float]:
    """Pixels by which `small` is moved right and down against `last`; none where the two have too little in common."""
    import cv2

    if last is None or last.shape != small.shape or min(small.shape) < 8:
        return 0.0, 0.0
    (dx, dy), response = cv2.phaseCorrelate(last, small)
    if response < 0.1 or abs(dx) > small.shape[1] / 4 or abs(dy) > small.shape[0] / 4:
        return 0.0, 0.0
    return float(dx), float(dy)


def _blobs(strength: NDArray[Any], threshold: float, factor: float, full: float, limit: int = 8) -> list[Found]:
    """Connected pieces above the threshold as boxes, of the whole picture's pixels; specks are left out."""
    import cv2

    mask = (strength > threshold).astype(np.uint8)
    mask = np.asarray(cv2.dilate(mask, np.ones((3, 3), np.uint8)), np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    found = []
    for label in range(1, count):
        x, y, width, height, area = (int(v) for v in stats[label])
        if area >= max(6, mask.size // 2000):
            piece = strength[y : y + height, x : x + width][labels[y : y + height, x : x + width] == label]
            score = min(1.0, float(piece.mean()) / full)
            found.append(Found(x * factor, y * factor, width * factor, height * factor, score))
    found.sort(key=lambda one: -one.score * one.width * one.height)
    return found[:limit]
