"""Where pictures come from: video files, pictures and folders of pictures."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from thalweg.pipeline.payload import VideoFrame
from thalweg.pipeline.stage import Context
from thalweg.stages.io.media import MediaError, Recording, opened
from thalweg.stages.io.reading import comes_by_pipe
from thalweg.stages.io.timeline import Timeline
from thalweg.stages.video.coder import VideoError
from thalweg.stages.video.upright import of_frame, of_picture, turned, upright

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
_BATCH = 4
_AT_ONCE_S = 0.02

Timed = tuple[int, NDArray[np.uint8]]
"""Nanoseconds from the start of the file, and the picture [height, width, 3] uint8, RGB."""


class VideoFile:
    """Reads a video file, a picture or a folder of pictures, in any format FFmpeg knows, as RGB frames.

    At `pace: realtime` frames are emitted when a camera would have given them; at `full` as fast as they are consumed.
    In both cases their times are those of the capture. Rotation metadata is applied. Pictures of a folder come in the
    order of their names, `rate` per second, each in its own size. Gray, palette and deep colour become 8-bit RGB;
    transparency is dropped. Memory does not grow with the length of the file.
    """

    outputs = {"frame": VideoFrame}

    def __init__(
        self,
        path: Annotated[Path, Field(description="the file, pipe or folder to read; `-` for standard input")],
        rate: Annotated[
            float | None,
            Field(gt=0, le=240, description="frames per second, at most; of pictures exactly, default 10"),
        ] = None,
        height: Annotated[
            int | None, Field(ge=1, le=8192, description="scale down to at most this many lines; default: no scaling")
        ] = None,
        pace: Annotated[
            Literal["realtime", "full"], Field(description="as a camera would, or as fast as possible")
        ] = "realtime",
        loops: Annotated[int, Field(ge=1, description="how many times the file is played")] = 1,
    ) -> None:
        self._path = Path(path)
        self._rate = rate
        self._height = height
        self._realtime = pace == "realtime"
        self._loops = loops
        self._stop = threading.Event()
        self._live = False
        self._frames: Iterator[Timed] = iter(())
        self._first: list[Timed] = []

    def open(self, ctx: Context) -> None:
        """Raises VideoError unless the file is there and begins like video. A pipe is not waited for."""
        self._live = comes_by_pipe(self._path)
        if self._live and self._loops > 1:
            raise VideoError(f"{self._path} is a pipe, and can be shown once: loops is {self._loops}")
        self._frames = self._all()
        self._first = [] if self._live else [next(self._frames)]

    def close(self) -> None:
        """Wait for a pipe no more."""
        self._stop.set()

    async def run(self, ctx: Context) -> None:
        """Emit the file, frame by frame; what could be decoded of a damaged file is emitted before the error."""
        batch, damage = self._first, None
        if self._live:
            batch, damage = await ctx.compute(_some, self._frames)
        start_ns = ctx.now_ns()
        while batch:
            for at_ns, pixels in batch:
                if self._realtime:
                    await ctx.sleep_until(start_ns + at_ns)
                await ctx.send(VideoFrame(pixels=pixels), time=start_ns + at_ns)
            if damage is not None:
                break
            batch, damage = await ctx.compute(_some, self._frames)
        if damage is not None:
            raise damage

    def _all(self) -> Iterator[Timed]:
        offset_ns = last_ns = step_ns = 0
        for _ in range(self._loops):
            for at_ns, pixels in thinned(read_frames(self._path, self._rate, self._height, self._stop), self._rate):
                step_ns = max(1, offset_ns + at_ns - last_ns) if offset_ns + at_ns > last_ns else step_ns
                last_ns = offset_ns + at_ns
                yield last_ns, pixels
            offset_ns = last_ns + (step_ns or 100_000_000)


def read_frames(
    path: Path, rate: float | None = None, height: int | None = None, stop: threading.Event | None = None
) -> Iterator[Timed]:
    """The pictures of a file or folder with their times, the right way up.

    Raises VideoError where there is none, and where it cannot be read to its end.
    """
    if path.is_dir():
        step_ns = round(1e9 / (rate or 10.0))
        names = sorted(name for name in path.iterdir() if name.suffix.lower() in PICTURES)
        if not names:
            raise VideoError(f"{path} holds no pictures: expected files that end in {', '.join(PICTURES)}")
        for i, name in enumerate(names):
            for _, pixels in _decode(name, height, stop):
                yield i * step_ns, pixels
                break
        return
    yield from _decode(path, height, stop)


def thinned(frames: Iterator[Timed], rate: float | None) -> Iterator[Timed]:
    """At most `rate` frames a second: of each period the first one."""
    if rate is None:
        yield from frames
        return
    period_ns, due_ns = round(1e9 / rate), 0
    for at_ns, pixels in frames:
        if at_ns >= due_ns - period_ns // 20:
            due_ns = max(due_ns + period_ns, at_ns + period_ns // 2)
            yield at_ns, pixels


def _some(frames: Iterator[Timed]) -> tuple[list[Timed], VideoError | None]:
    """The next frames, no more than can be had at once, and what ended them if they ended in damage."""
    found: list[Timed] = []
    until_s = time.monotonic() + _AT_ONCE_S
    try:
        for frame in frames:
            found.append(frame)
            if len(found) == _BATCH or time.monotonic() > until_s:
                break
    except VideoError as error:
        return found, error
    return found, None


def _decode(path: Path, height: int | None, stop: threading.Event | None) -> Iterator[Timed]:
    try:
        with opened(path, "video", stop=stop) as media:
            orientation = of_picture(media.look)
            for recording in media.recordings():
                begin_s = media.held_s
                for at_s, frame in _placed(recording, begin_s):
                    yield round(at_s * 1e9), rgb(frame, height, orientation or of_frame(frame))
                    media.held_s = at_s + _period_s(recording)
                media.held_s = max(media.held_s, begin_s + recording.end_s - recording.start_s)
            media.ended()
            if not media.held_s:
                raise MediaError(f"{media.name} holds no pictures")
    except MediaError as error:
        raise VideoError(str(error)) from None


def _period_s(recording: Recording) -> float:
    return 1 / float(recording.stream.average_rate or 25)


def _placed(recording: Recording, begin_s: float) -> Iterator[tuple[float, Any]]:  # Any: PyAV's
    """Each frame with the second at which it is shown, when the recording begins at `begin_s`."""
    timeline = Timeline(recording, begin_s)
    last_s: float | None = None
    for frame in recording.frames():
        next_s = begin_s if last_s is None else last_s + _period_s(recording)
        last_s = next_s if frame.time is None else timeline.place(frame.time, last_s, next_s)
        yield last_s, frame


def rgb(frame: Any, height: int | None, orientation: int) -> NDArray[np.uint8]:
    """[height, width, 3] uint8 of a picture of PyAV's, at most so high, the right way up."""
    wide, high = (frame.height, frame.width) if turned(orientation) else (frame.width, frame.height)
    if height is not None and high > height:
        size = max(2, round(wide * height / high / 2) * 2), height
        width, lines = reversed(size) if turned(orientation) else size
        frame = frame.reformat(width=width, height=lines, format="rgb24", interpolation="AREA")
    return upright(frame.to_ndarray(format="rgb24"), orientation)
