"""Text-rich scenes composed from photographs, with a moving camera: synthetic, and called so wherever they are used.

A wall of photographs (samples that come in scikit-image, public domain or CC0) carries a few labels with small print,
a coloured disc, a handful of dots and a ball that rolls by. A camera of 640×480 pixels pans, turns, zooms and shakes in
front of it; it blurs what moves and adds noise. Everything follows from the seed. The question is about one label, the
disc, the dots or the ball; where that lies in each frame is known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.pipeline.video.regions import Box

Pixels = NDArray[np.uint8]
Spot = tuple[int, int, int, int]
"""x, y, width, height in pixels."""

WIDTH, HEIGHT, RATE = 640, 480, 10.0
SECONDS = 4.0
_OPEN = (0.0, 0.15, 0.3)
"""When within a frame its shots are taken: they blur what moves."""
DOT = 6
"""Radius of the dots that are counted, pixels."""
_CANVAS = (1200, 900)
_PHOTOS = ("astronaut", "coffee", "chelsea", "rocket", "hubble_deep_field", "retina")
_WORDS: tuple[str, ...] = (
    "GATE",
    "ROOM",
    "EXIT",
    "TRACK",
    "SHELF",
    "BUS",
    "LEVEL",
    "ZONE",
    "UNIT",
    "DOCK",
    "PIER",
    "AISLE",
    "FLOOR",
)
_WORDS += ("BAY", "LANE", "DESK", "PORT", "STOP", "CAGE", "LOT", "Invoice", "Order", "Ticket", "Serial", "Batch")
_WORDS += ("Model", "Flight", "Locker", "Parcel", "Permit")
_COLOURS = {
    "red": (200, 30, 30),
    "yellow": (235, 215, 40),
    "green": (40, 160, 60),
    "blue": (40, 70, 200),
    "purple": (130, 50, 160),
    "orange": (240, 130, 20),
}
_PAPER = {
    "white": (250, 250, 245),
    "yellow": (240, 215, 60),
    "blue": (25, 70, 190),
    "green": (30, 130, 60),
    "red": (185, 25, 30),
    "black": (25, 25, 28),
}


@dataclass(frozen=True, slots=True)
class Question:
    """`kind`: text, colour, count or direction; print, people or face of packaged clips.

    `boxes`: where the answer is to be seen, one per frame, 0…1. `places`: all of it, where that is in several places.
    `changing`: the answers at frames at which it is another one.
    """

    kind: str
    words: str
    answer: str
    boxes: tuple[Box, ...]
    places: tuple[tuple[Box, ...], ...] = ()
    changing: Mapping[int, str] = field(default_factory=dict)

    def regions(self, frame: int) -> tuple[Box, ...]:
        """Where to look in a frame."""
        return self.places[frame] if self.places else (self.boxes[frame],)

    def answer_at(self, frame: int) -> str:
        """What is right then."""
        return self.changing.get(frame, self.answer)


@dataclass(frozen=True, slots=True)
class Clip:
    """Frames [height, width, 3] RGB at `rate` a second, and what can be asked about them."""

    name: str
    frames: tuple[Pixels, ...]
    rate: float
    questions: tuple[Question, ...]
    synthetic: bool


def compose(seed: int, *, seconds: float = SECONDS, labels: int = 4) -> Clip:
    """One scene. The same seed gives the same pixels on every machine with the same library versions."""
    import cv2

    random = np.random.default_rng(seed)
    wall = _wall(random)
    placed = _labels(wall, random, labels)
    colour = str(random.choice(list(_COLOURS)))
    disc = _disc(wall, random, colour, [box for *_, box in placed])
    dots, (dot_colour, dotted) = _dots(wall, np.random.default_rng([seed, 1]), colour, [disc, *(b for *_, b in placed)])
    target = placed[0][2]
    path = _Camera(random, target)
    count = round(seconds * RATE)
    rolls_right = bool(random.random() < 0.5)
    frames: list[Pixels] = []
    boxes: dict[str, list[Box]] = {"text": [], "colour": [], "count": [], "direction": []}
    ball_y = float(random.uniform(0.25, 0.75))
    for i in range(count):
        shots = []
        for part in _OPEN:
            shot = _shot(wall, path.at((i + part) / RATE))
            ball = _ball(i + part, count, rolls_right, ball_y)
            cv2.circle(shot, (round(ball[0] * WIDTH), round(ball[1] * HEIGHT)), 13, (240, 240, 250), -1, cv2.LINE_AA)
            cv2.circle(shot, (round(ball[0] * WIDTH), round(ball[1] * HEIGHT)), 13, (20, 20, 20), 2, cv2.LINE_AA)
            shots.append(shot)
        frames.append(_exposed(shots, random))
        matrix = path.at((i + 0.15) / RATE)
        boxes["text"].append(_seen(target, matrix))
        boxes["colour"].append(_seen(disc, matrix))
        boxes["count"].append(_seen(dotted, matrix))
        ball = _ball(i + 0.15, count, rolls_right, ball_y)
        boxes["direction"].append((ball[0] - 0.04, ball[1] - 0.05, 0.08, 0.1, 1.0))
    text, paper, _ = placed[0]
    questions = [Question("text", f"What does the {paper} label say?", text, tuple(boxes["text"]))]
    if all(_inside(box) for box in boxes["colour"]):
        questions.append(Question("colour", "Which colour is the disc?", colour, tuple(boxes["colour"])))
    if dots and all(_inside(box) for box in boxes["count"]):
        words = f"How many {dot_colour} dots are there?"
        questions.append(Question("count", words, str(dots), tuple(boxes["count"])))
    way = "right" if rolls_right else "left"
    questions.append(Question("direction", "Is the ball moving left or right?", way, tuple(boxes["direction"])))
    return Clip(f"scene-{seed}", tuple(frames), RATE, tuple(questions), True)


def filmed(
    picture: Pixels, spot: Spot, random: np.random.Generator, seconds: float
) -> tuple[tuple[Pixels, ...], tuple[Box, ...]]:
    """What the same camera sees of any picture when it moves around a spot of it; and where that lies in each frame."""
    path = _Camera(random, spot)
    count = range(round(seconds * RATE))
    frames = tuple(_exposed([_shot(picture, path.at((i + part) / RATE)) for part in _OPEN], random) for i in count)
    return frames, tuple(_seen(spot, path.at((i + 0.15) / RATE)) for i in count)


def _shot(wall: Pixels, matrix: NDArray[np.float64]) -> Pixels:
    import cv2

    shot = cv2.warpAffine(wall, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(shot, np.uint8)


def _exposed(shots: list[Pixels], random: np.random.Generator) -> Pixels:
    """The shots of one exposure, and the sensor's noise."""
    picture = np.mean([shot.astype(np.float32) for shot in shots], 0) + random.normal(0, 2.0, (HEIGHT, WIDTH, 1))
    return np.asarray(np.clip(np.rint(picture), 0, 255), np.uint8)


@cache
def _photos() -> tuple[Pixels, ...]:
    from skimage import data

    return tuple(np.ascontiguousarray(getattr(data, name)()[..., :3]) for name in _PHOTOS)


def _wall(random: np.random.Generator) -> Pixels:
    """Six photographs side by side, near their own resolution, turned over at random."""
    import cv2

    width, height = _CANVAS
    wall = np.empty((height, width, 3), np.uint8)
    order = random.permutation(len(_photos()))
    for place, which in enumerate(order):
        photo = _photos()[which]
        cell = (width // 3, height // 2)
        factor = max(cell[0] / photo.shape[1], cell[1] / photo.shape[0]) * random.uniform(1.0, 1.25)
        grown = cv2.resize(photo, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        x = int(random.integers(0, grown.shape[1] - cell[0] + 1))
        y = int(random.integers(0, grown.shape[0] - cell[1] + 1))
        piece = grown[y : y + cell[1], x : x + cell[0]]
        piece = piece[:, ::-1] if random.random() < 0.5 else piece
        column, row = place % 3, place // 3
        wall[row * cell[1] : (row + 1) * cell[1], column * cell[0] : (column + 1) * cell[0]] = piece
    return wall


def _labels(wall: Pixels, random: np.random.Generator, count: int) -> list[tuple[str, str, Spot]]:
    """Texts, colours (all different) and places, pixels of the wall; the first in the middle; print of 12…19 pixels."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(wall)
    draw = ImageDraw.Draw(image)
    placed: list[tuple[str, str, Spot]] = []
    colours = [str(name) for name in random.permutation(list(_PAPER))]
    tries = 0
    while len(placed) < count and tries < 100:
        tries += 1
        text = _text(random)
        font = _font(bool(random.random() < 0.5), int(random.integers(12, 20)))
        left, top, right, bottom = (round(v) for v in font.getbbox(text))
        width, height = right - left + 14, bottom - top + 12
        if placed:
            x, y = int(random.integers(250, 950 - width)), int(random.integers(180, 720 - height))
        else:
            x, y = int(random.integers(480, 720 - width // 2)), int(random.integers(370, 520))
        spot = (x, y, width, height)
        if any(_near(spot, other) for *_, other in placed):
            continue
        colour = colours[len(placed)]
        paper = _PAPER[colour]
        ink = (15, 15, 20) if sum(paper) > 400 else (245, 245, 240)
        draw.rectangle((x, y, x + width, y + height), fill=paper, outline=ink)
        draw.text((x + 7 - left, y + 6 - top), text, fill=ink, font=font)
        placed.append((text, colour, spot))
    wall[:] = np.asarray(image)
    return placed


def _text(random: np.random.Generator) -> str:
    letters = "ABCDEFHKLMNPRTUVXY"
    word = str(random.choice(_WORDS))
    code = "".join(str(d) for d in random.integers(2, 10, int(random.integers(2, 5))))
    return f"{word} {random.choice(list(letters))}{code}"


@cache
def _font(bold: bool, size: int) -> Any:  # Any: PIL's font classes
    import matplotlib
    from PIL import ImageFont

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(str(folder / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")), size)


def _disc(wall: Pixels, random: np.random.Generator, colour: str, taken: list[Spot]) -> Spot:
    import cv2

    radius = 11
    for _ in range(200):
        x, y = int(random.integers(420, 780)), int(random.integers(320, 580))
        spot = (x - radius, y - radius, 2 * radius, 2 * radius)
        if not any(_near(spot, other) for other in taken):
            break
    cv2.circle(wall, (x, y), radius, _COLOURS[colour], -1, cv2.LINE_AA)
    return spot


def _dots(wall: Pixels, random: np.random.Generator, besides: str, taken: list[Spot]) -> tuple[int, tuple[str, Spot]]:
    """How many dots of which colour, all but `besides`, and where; none if there is no room."""
    import cv2

    colour = str(random.choice([name for name in _COLOURS if name != besides]))
    width, height = 120, 70
    for _ in range(200):
        x, y = int(random.integers(440, 640)), int(random.integers(340, 500))
        spot = (x, y, width, height)
        if any(_near(spot, other) for other in taken):
            continue
        cells = random.permutation(15)[: int(random.integers(2, 8))]
        for cell in cells.tolist():
            middle = (x + 12 + 24 * (cell % 5), y + 11 + 24 * (cell // 5))
            cv2.circle(wall, middle, DOT, _COLOURS[colour], -1, cv2.LINE_AA)
        return len(cells), (colour, spot)
    return 0, (colour, (0, 0, 1, 1))


def _near(a: Spot, b: Spot) -> bool:
    gap = 25
    return (
        a[0] < b[0] + b[2] + gap and b[0] < a[0] + a[2] + gap and a[1] < b[1] + b[3] + gap and b[1] < a[1] + a[3] + gap
    )


class _Camera:
    """Pans around the target by sums of slow sines, shakes, turns by ±1.5°, zooms by ±5 %."""

    def __init__(self, random: np.random.Generator, target: Spot) -> None:
        self._middle = (target[0] + target[2] / 2, target[1] + target[3] / 2)
        self._reach = random.uniform(60, 140, 2)
        self._speed = random.uniform(0.25, 0.8, 2)
        self._phase = random.uniform(0, 2 * math.pi, 6)
        self._offset = random.uniform(-60, 60, 2)

    def at(self, time_s: float) -> NDArray[np.float64]:
        """The affine matrix [2, 3] from wall to picture."""
        import cv2

        phase = self._phase
        pan = [
            self._offset[k]
            + self._reach[k] * math.sin(self._speed[k] * time_s + phase[k])
            + 1.0 * math.sin(9 * time_s + phase[k + 2])
            for k in (0, 1)
        ]
        zoom = 1 + 0.05 * math.sin(0.9 * time_s + phase[4])
        angle = 1.5 * math.sin(1.1 * time_s + phase[5])
        centre = (self._middle[0] + pan[0], self._middle[1] + pan[1])
        matrix = cv2.getRotationMatrix2D(centre, angle, zoom)
        matrix[0, 2] += WIDTH / 2 - centre[0]
        matrix[1, 2] += HEIGHT / 2 - centre[1]
        return np.asarray(matrix, np.float64)


def _ball(frame: float, count: int, right: bool, y: float) -> tuple[float, float]:
    share = 0.1 + 0.8 * frame / count
    return (share if right else 1 - share), y + 0.05 * math.sin(frame / 6)


def _seen(spot: Spot, matrix: NDArray[np.float64]) -> Box:
    x, y, width, height = spot
    corners = np.array([(x, y, 1), (x + width, y, 1), (x, y + height, 1), (x + width, y + height, 1)], np.float64)
    points = corners @ matrix.T / (WIDTH, HEIGHT)
    (left, top), (right, bottom) = points.min(0), points.max(0)
    return float(left), float(top), float(right - left), float(bottom - top), 1.0


def _inside(box: Box) -> bool:
    return box[0] > 0.01 and box[1] > 0.01 and box[0] + box[2] < 0.99 and box[1] + box[3] < 0.99
