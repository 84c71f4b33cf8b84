"""Questions from a user's own clips: what can be read in them before they are coded.

From each video of a folder come the first four seconds, 480 lines high at most, ten frames a second. The viewer reads
the uncoded frames; the longest line that it is sure of in most of them is the answer to be found. So the truth is the
viewer's own, not a person's, and what it cannot read uncoded is not asked: the measure is agreement with itself.
Nothing is selected on how it is coded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from thalweg.deploy.bench.video.scenes import RATE, SECONDS, Clip, Pixels, Question
from thalweg.deploy.bench.video.viewer import plain, reader
from thalweg.models.vision.ocr import Line
from thalweg.pipeline.video.regions import Box
from thalweg.stages.video.coder import VideoError
from thalweg.stages.video.file import read_frames, thinned

_SURE = 0.97
_SHORTEST = 3
_LINES = 480


def own_clips(folder: Path) -> Iterator[Clip]:
    """The clips of a folder that have something to read; files that are no video are passed over."""
    for path in sorted(folder.iterdir()):
        try:
            shown = thinned(read_frames(path, height=_LINES), RATE)
            frames = tuple(pixels for _, pixels in islice(shown, round(SECONDS * RATE)))
        except VideoError:
            continue
        clip = ask(path.name, frames)
        if clip is not None:
            yield clip


def ask(name: str, frames: tuple[Pixels, ...]) -> Clip | None:
    """A clip with its question, or None where nothing can be read for most of it."""
    if len(frames) < round(2 * RATE) or len({frame.shape for frame in frames}) > 1:
        return None
    read = {i: reader().read(frames[i]) for i in range(0, len(frames), 5)}
    texts = Counter(
        plain(line.text)
        for lines in read.values()
        for line in lines
        if line.score >= _SURE and len(plain(line.text)) >= _SHORTEST
    )
    often = [text for text, count in texts.items() if count > len(read) / 2]
    if not often:
        return None
    answer = max(often, key=len)
    height, width = frames[0].shape[:2]
    seen = {i: _box(line, width, height) for i, lines in read.items() for line in lines if plain(line.text) == answer}
    boxes = tuple(seen[min(seen, key=lambda at, i=i: abs(at - i))] for i in range(len(frames)))  # type: ignore[misc]
    return Clip(name, frames, RATE, (Question("text", "What does it say?", answer, boxes),), False)


def _box(line: Line, width: int, height: int) -> Box:
    return line.x / width, line.y / height, line.width / width, line.height / height, 1.0
