"""The machine that watches: it reads text, counts dots, people and faces, names a colour, says which way a ball rolls.

Or a vision-language model of the user's, behind an OpenAI-compatible address (`vision`), that is asked in words.

Its answers are checked against what the scene was composed from. A moment of a clip counts only where this viewer
answers rightly on the picture before any coding: so nothing is selected on how it is coded.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from thalweg.deploy.bench.video.scenes import DOT, Clip, Question
from thalweg.deploy.bench.video.visionmodel import VisionModel
from thalweg.models.vision.detectors import Faces, Motion, People, colour_share
from thalweg.models.vision.ocr import Line, TextReader
from thalweg.pipeline.video.intent import named_colour
from thalweg.pipeline.video.regions import Box
from thalweg.stages.vision.read import readability

Pixels = NDArray[np.uint8]
VISION, VISION_MODEL, VISION_KEY = (f"THALWEG_BENCH_VISION{part}" for part in ("", "_MODEL", "_KEY"))
"""Environment variables: base address of a vision model, …/v1, its name there, and the key."""

_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_DIGITS = {word: str(i) for i, word in enumerate(_NUMBERS)}
_OFF_BY = {"people": 1, "face": 0}
"""By how much a count may be off: where people hide each other, the reference count may be off by one, too."""

_COLOURED = 0.25
_HUES = {"red": 0, "orange": 14, "yellow": 27, "green": 65, "blue": 115, "purple": 142}


@lru_cache(maxsize=1)
def reader() -> TextReader:
    """One reader for all."""
    return TextReader()


@cache
def detector(kind: str) -> Faces | People:
    """What counts people or faces."""
    return People() if kind == "people" else Faces()


def moments(clip: Clip) -> list[int]:
    """The frames at which the viewer looks: one a second, the first after a second and a half."""
    first = round(1.5 * clip.rate)
    return list(range(first, len(clip.frames), round(clip.rate)))


def needed(question: Question, at: Sequence[int]) -> set[int]:
    """The frames that must be seen to answer at those moments."""
    back = 5 if question.kind == "direction" else 0
    return {i for moment in at for i in range(max(0, moment - back), moment + 1)}


def answers(question: Question, frames: Mapping[int, Pixels], at: int) -> tuple[bool, float]:
    """Whether the viewer is right at frame `at`, and how sure it is 0…1 (our own of text only).

    Of text it reads the quarter of the picture around the label, which is what one that knows where to look would
    do; this is the same for every system, and four times faster. It is as sure as of the lines on paper of the colour
    that the question names, or of all where it sees no such paper.
    """
    if (model := vision()) is not None:
        said, sure = model.ask(question.words, [frames[i] for i in sorted(needed(question, [at]))])
        return _says(question, said, at), sure
    if question.kind in ("text", "print"):
        part = around(frames[at], question.boxes[at])
        lines = reader().read(part)
        return reads(question.answer, lines), readability(asked_for(question.words, lines, part))
    if question.kind in _OFF_BY:
        return _near_enough(question, len(detector(question.kind).find(frames[at])), at), 1.0
    if question.kind == "count":
        return str(dots(frames[at], named_colour(question.words) or "")) == question.answer, 1.0
    if question.kind == "colour":
        return disc_colour(frames[at]) == question.answer, 1.0
    return direction([frames[i] for i in sorted(needed(question, [at]))]) == question.answer, 1.0


@cache
def vision() -> VisionModel | None:
    """The user's vision model, where the environment names one."""
    url = os.environ.get(VISION)
    return (
        VisionModel(url, os.environ.get(VISION_MODEL, "default"), os.environ.get(VISION_KEY, "none")) if url else None
    )


def _near_enough(question: Question, count: int, at: int) -> bool:
    return abs(count - int(question.answer_at(at))) <= _OFF_BY[question.kind]


def _says(question: Question, said: str, at: int) -> bool:
    """Whether a sentence gives the answer, and, of those that can be confused, no other."""
    if question.kind in ("text", "print"):
        return plain(question.answer) in plain(said)
    words = [_DIGITS.get(word, word) for word in re.findall(r"[a-z]+|\d+", said.lower())]
    rivals = {"colour": set(_HUES), "direction": {"left", "right"}}.get(question.kind)
    named = {word for word in words if (word in rivals if rivals else word.isdigit())}
    if question.kind in _OFF_BY:
        return len(named) == 1 and _near_enough(question, int(named.pop()), at)
    return named == {question.answer}


def asked_for(words: str, lines: list[Line], pixels: Pixels) -> list[Line]:
    """The lines that the words mean, by the colour they name."""
    colour = named_colour(words)
    if colour is None:
        return lines
    meant = []
    for line in lines:
        x, y = max(0, round(line.x)), max(0, round(line.y))
        inside = pixels[y : y + max(1, round(line.height)), x : x + max(1, round(line.width))]
        if colour_share(inside, colour) > _COLOURED:
            meant.append(line)
    return meant or lines


def around(pixels: Pixels, box: Box) -> Pixels:
    """Half the width and height of the picture around a box."""
    height, width = pixels.shape[:2]
    left = round(min(max(0.0, box[0] + box[2] / 2 - 0.25), 0.5) * width)
    top = round(min(max(0.0, box[1] + box[3] / 2 - 0.25), 0.5) * height)
    return pixels[top : top + height // 2, left : left + width // 2]


def reads(answer: str, lines: Sequence[Line]) -> bool:
    """Whether a line holds the answer, letters and digits exactly, spaces and case aside."""
    wanted = plain(answer)
    return any(wanted in plain(line.text) for line in lines)


def plain(text: str) -> str:
    """Letters and digits, upper case."""
    return "".join(character for character in text.upper() if character.isalnum())


def dots(pixels: Pixels, colour: str) -> int:
    """How many dots of a colour there are: vivid patches of their size, as wide as high."""
    mask = _hued(pixels, _HUES[colour]) if colour in _HUES else np.zeros(pixels.shape[:2], np.uint8)
    import cv2

    count, _, stats, _ = cv2.connectedComponentsWithStats(mask)
    area = math.pi * DOT**2
    return sum(
        0.55 * area <= size <= 1.5 * area and 0.7 <= width / height <= 1.43
        for _, _, width, height, size in stats[1:count].tolist()
    )


def _hued(pixels: Pixels, middle: int) -> Pixels:
    """1 where a pixel is vivid and near a hue."""
    import cv2

    hue, saturation, value = cv2.split(cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2HSV))
    away = np.abs((hue.astype(np.int16) - middle + 90) % 180 - 90)
    return np.asarray((away <= 7) & (saturation > 120) & (value > 90), np.uint8)


def disc_colour(pixels: Pixels) -> str | None:
    """The colour of the roundest vivid patch of a disc's size."""
    import cv2

    best, name = 0.0, None
    for colour, middle in _HUES.items():
        mask = _hued(pixels, middle)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
        for label in range(1, count):
            x, y, width, height, area = (int(v) for v in stats[label])
            if 250 <= area <= 560 and 0.8 <= width / height <= 1.25:
                ys, xs = np.nonzero(labels[y : y + height, x : x + width] == label)
                radius = (width + height) / 4
                inside = np.hypot(xs - width / 2 + 0.5, ys - height / 2 + 0.5) <= radius
                roundness = float(inside.mean()) * min(1.0, area / (np.pi * radius**2))
                if roundness > best:
                    best, name = roundness, colour
    return name


def direction(frames: Sequence[Pixels]) -> str | None:
    """Which way the thing that moves by itself goes: the sign of its median step."""
    motion, steps, last = Motion(), [], None
    for frame in frames:
        found = motion.find(frame)
        if not found:
            continue
        box = found[0]
        middle = box.x + box.width / 2
        if last is not None:
            steps.append(middle - last)
        last = middle
    if not steps or abs(step := float(np.median(steps))) < 1.0:
        return None
    return "right" if step > 0 else "left"
