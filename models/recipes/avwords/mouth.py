"""A mouth, drawn from phonemes: where the lips are at each moment, and pictures of them.

The face is a cartoon: an ellipse of lips with teeth, a tongue and a dark opening on a plain skin. It keeps what
lip reading rests on (closure, rounding, spreading, teeth on the lower lip, tongue between the teeth) and leaves
out what makes people hard to read. Phonemes that look alike get one shape, so /p/, /b/ and /m/ cannot be told apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SIZE = 32
FPS = 25
_SMOOTH_S = 0.035

# width, opening, teeth, tongue, lower lip under the teeth, rounding; all 0…1
_REST = (0.55, 0.06, 0.0, 0.0, 0.0, 0.0)
_SHAPES: dict[str, tuple[float, ...]] = {
    "bilabial": (0.50, 0.00, 0.0, 0.0, 0.0, 0.1),
    "labiodental": (0.54, 0.14, 0.7, 0.0, 1.0, 0.0),
    "dental": (0.55, 0.22, 0.5, 1.0, 0.0, 0.0),
    "alveolar": (0.56, 0.20, 0.6, 0.2, 0.0, 0.0),
    "sibilant": (0.62, 0.13, 1.0, 0.0, 0.0, 0.0),
    "lateral": (0.55, 0.32, 0.3, 0.7, 0.0, 0.0),
    "postalveolar": (0.42, 0.20, 0.9, 0.0, 0.0, 0.7),
    "velar": (0.55, 0.28, 0.2, 0.0, 0.0, 0.0),
    "r": (0.44, 0.22, 0.3, 0.0, 0.0, 0.5),
    "w": (0.28, 0.10, 0.0, 0.0, 0.0, 1.0),
    "open": (0.60, 0.80, 0.2, 0.1, 0.0, 0.0),
    "mid": (0.64, 0.50, 0.3, 0.1, 0.0, 0.0),
    "spread": (0.78, 0.24, 0.6, 0.0, 0.0, 0.0),
    "neutral": (0.52, 0.34, 0.2, 0.0, 0.0, 0.1),
    "round": (0.38, 0.48, 0.0, 0.0, 0.0, 0.8),
    "tight": (0.30, 0.18, 0.0, 0.0, 0.0, 1.0),
}
_LOOKS = {
    "bilabial": "p b m",
    "labiodental": "f v",
    "dental": "T D t[ th dh",
    "alveolar": "t d n t2 d2 *",
    "sibilant": "s z",
    "lateral": "l l2 L el",
    "postalveolar": "S Z tS dZ sh zh ch jh",
    "velar": "k g N ng h hh x j y ?",
    "r": "r r2 r- er 3: 3 R",
    "w": "w",
    "open": "a aa A A: a: ae aI ay aU aw V ah &",
    "mid": "E e eh eI ey E2 E: e@",
    "spread": "i i: iy I ih I2",
    "neutral": "@ ax @2 @L i2",
    "round": "O O: ao oU ow 0 OI oy o o:",
    "tight": "u u: uw U uh",
}
_GLIDES = {"aI": "spread", "ay": "spread", "eI": "spread", "ey": "spread", "OI": "spread", "oy": "spread",
           "aU": "tight", "aw": "tight", "oU": "tight", "ow": "tight", "e@": "neutral"}  # fmt: skip
_SHAPE_OF = {phoneme: np.array(_SHAPES[look]) for look, names in _LOOKS.items() for phoneme in names.split()}


@dataclass(frozen=True, slots=True)
class Face:
    """Whose mouth it is. Lengths in pixels of a 32 × 32 picture, brightness 0…1."""

    skin: float
    lip: float
    lip_thickness: float
    scale: float
    x: float
    y: float
    tilt: float
    beard: float
    liveliness: float


def draw_face(rng: np.random.Generator) -> Face:
    """Some face; the generator decides whose, so sets with other seeds have other faces."""
    return Face(
        skin=rng.uniform(0.35, 0.85),
        lip=rng.uniform(-0.28, -0.08),
        lip_thickness=rng.uniform(1.3, 2.8),
        scale=rng.uniform(0.8, 1.15),
        x=rng.uniform(-2.0, 2.0),
        y=rng.uniform(-2.0, 2.0),
        tilt=rng.uniform(-0.18, 0.18),
        beard=rng.uniform(0.0, 0.25) if rng.random() < 0.4 else 0.0,
        liveliness=rng.uniform(0.75, 1.2),
    )


def shapes(phonemes: tuple[tuple[str, float], ...], end_s: float, times_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """The lips at `times_s`: [time, 6] as listed above, each phoneme melting into its neighbours."""
    step_s = 0.005
    grid = np.arange(min(0.0, times_s[0]), max(end_s, times_s[-1]) + step_s, step_s)
    track = np.tile(np.array(_REST), (len(grid), 1))
    ends = [start for _, start in phonemes[1:]] + [end_s]
    for (name, start), end in zip(phonemes, ends, strict=True):
        shape = _SHAPE_OF.get(name)
        if shape is None:
            continue
        inside = (grid >= start) & (grid < end)
        track[inside] = shape
        if name in _GLIDES:
            track[(grid >= (start + end) / 2) & (grid < end)] = _SHAPES[_GLIDES[name]]
    reach = np.arange(-3 * _SMOOTH_S, 3 * _SMOOTH_S + step_s, step_s)
    kernel = np.exp(-0.5 * (reach / _SMOOTH_S) ** 2)
    kernel /= kernel.sum()
    padded = np.pad(track, ((len(reach) // 2,) * 2, (0, 0)), mode="edge")
    smooth = np.stack([np.convolve(column, kernel, mode="valid")[: len(grid)] for column in padded.T], axis=1)
    return np.stack([np.interp(times_s, grid, column) for column in smooth.T], axis=1)


def render(lips: NDArray[np.float64], face: Face, rng: np.random.Generator) -> NDArray[np.float32]:
    """Pictures [time, 32, 32] float32, 0…1, before anything is done to them. The head sways a little."""
    n = len(lips)
    sway = np.cumsum(rng.normal(0, 0.12, (n, 2)), axis=0)
    ys, xs = np.mgrid[0:SIZE, 0:SIZE].astype(np.float64) - (SIZE - 1) / 2
    x = xs[None] - face.x - sway[:, 0, None, None]
    y = ys[None] - face.y - sway[:, 1, None, None]
    cos, sin = np.cos(face.tilt), np.sin(face.tilt)
    x, y = (cos * x + sin * y) / face.scale, (-sin * x + cos * y) / face.scale
    width, opening, teeth, tongue, tucked, rounding = (lips.T[i, :, None, None] for i in range(6))
    half_w = 3.0 + 11.0 * width
    half_h = 7.5 * opening * face.liveliness + 0.25
    thickness = face.lip_thickness * (1 + 0.5 * rounding)
    pressed = np.clip(1 - opening * 12, 0, 1)
    outer = (x / (half_w + thickness)) ** 2 + (y / (half_h + thickness * (1 - 0.35 * pressed))) ** 2
    inner = (x / half_w) ** 2 + (y / half_h) ** 2
    picture = np.full((n, SIZE, SIZE), face.skin) + face.beard * np.where(y > 3, -1.0, 0.0) * _stubble(rng)
    picture = _blend(picture, face.skin + face.lip, _inside(outer, 0.25))
    mouth = _inside(inner, 0.35)
    picture = _blend(picture, 0.08, mouth)
    upper_teeth = mouth * _inside_band(y, -half_h, -half_h + 1.0 + 0.45 * half_h) * teeth
    picture = _blend(picture, 0.92, upper_teeth)
    picture = _blend(picture, 0.55, mouth * _inside_band(y, 0.15 * half_h, half_h) * tongue)
    return _blend(picture, 0.9, tucked * _inside((x / (0.6 * half_w)) ** 2 + ((y - 0.6) / 1.1) ** 2, 0.4)).astype(
        np.float32
    )


def _blend(picture: NDArray[np.float64], colour: float, share: NDArray[np.float64]) -> NDArray[np.float64]:
    return picture * (1 - share) + colour * share


def _inside(distance: NDArray[np.float64], softness: float) -> NDArray[np.float64]:
    return np.clip((1 + softness - distance) / (2 * softness), 0, 1)


def _inside_band(y: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip(y - low + 0.5, 0, 1) * np.clip(high - y + 0.5, 0, 1)


def _stubble(rng: np.random.Generator) -> NDArray[np.float64]:
    return rng.uniform(0.3, 1.0, (1, SIZE, SIZE))
