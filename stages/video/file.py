"""Where pictures come from: video files, pictures and folders of pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from thalweg.pipeline.payload import VideoFrame
from thalweg.pipeline.stage import Context
from thalweg.stages.video.coder import VideoError

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
_BATCH = 4

Timed = tuple[int, NDArray[np.uint8]]
"""Nanoseconds from the start of the file, and the picture [height, width, 3] uint8, RGB."""


class VideoFile:
    """Reads a video file, a picture or a folder of pictures, in any format FFmpeg knows, as RGB frames.

    At `pace: realtime` frames come when a camera would have given them; at `full` as fast as they are taken. Either
    way they carry the times they would have been captured at. Pictures come in the order of their names, `rate` a
    second, each in its own size. Gray, palette and deep colour become 8-bit RGB; transparency is dropped. Memory does
    not grow with the length of the file.
    """

    outputs = {"frame": VideoFrame}

    def __init__(
        self,
        path: Annotated[Path, Field(description="the file or folder to read")],
        rate: Annotated[
            float | None,
            Field(gt=0, le=240, description="frames a second at most; of pictures exactly, 10 if left out"),
        ] = None,
        height: Annotated[
            int | None, Field(ge=1, le=8192, description="scale down to at most this many lines; as it is if left out")
        ] = None,
        pace: Annotated[
            Literal["realtime", "full"], Field(description="as a camera would, or as fast as possible")
        ] = "realtime",
        loops: Annotated[int, Field(ge=1, description="times the file is shown, one after the other")] = 1,
    ) -> None:
        self._path = path
        self._rate = rate
        self._height = height
        self._realtime = pace == "realtime"
        self._loops = loops
        self._frames: Iterator[Timed] = iter(())
        self._first: Timed | None = None

    def open(self, ctx: Context) -> None:
        """Raises VideoError unless the file is there and begins like video."""
        self._frames = self._all()
        self._first = next(self._frames, None)
        if self._first is None:
            raise VideoError(f"{self._path} holds no pictures")

    async def run(self, ctx: Context) -> None:
        """Emit the file, frame by frame; what could be decoded of a damaged file is emitted before the error."""
        start_ns = ctx.now_ns()
        batch: list[Timed] = [self._first] if self._first is not None else []
        damage: VideoError | None = None
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
            for at_ns, pixels in thinned(read_frames(self._path, self._rate, self._height), self._rate):
                step_ns = max(1, offset_ns + at_ns - last_ns) if offset_ns + at_ns > last_ns else step_ns
                last_ns = offset_ns + at_ns
                yield last_ns, pixels
            offset_ns = last_ns + (step_ns or 100_000_000)


def read_frames(path: Path, rate: float | None = None, height: int | None = None) -> Iterator[Timed]:
    """The pictures of a file or folder with their times. Raises VideoError where it cannot be read to its end."""
    if path.is_dir():
        step_ns = round(1e9 / (rate or 10.0))
        names = sorted(name for name in path.iterdir() if name.suffix.lower() in PICTURES)
        for i, name in enumerate(names):
            for _, pixels in _decode(name, height):
                yield i * step_ns, pixels
                break
        return
    yield from _decode(path, height)


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
    """The next frames, and what ended them if they ended in damage."""
    found: list[Timed] = []
    try:
        for frame in frames:
            found.append(frame)
            if len(found) == _BATCH:
                break
    except VideoError as error:
        return found or [], error
    return found, None


def _decode(path: Path, height: int | None) -> Iterator[Timed]:
    import av

    try:
        container = av.open(str(path))
    except FileNotFoundError:
        raise VideoError(f"{path} does not exist") from None
    except (OSError, ValueError) as error:
        raise VideoError(f"{path} is not video: {getattr(error, 'strerror', None) or error}") from None
    with container:
        if not container.streams.video:
            raise VideoError(f"{path} has no video stream")
        stream = container.streams.video[0]
        damaged = pieces = 0
        start: float | None = None
        period_s = 1 / float(stream.average_rate or 25)
        last_s = -period_s
        for packet in _packets(container, stream):
            pieces += 1
            frames: list[Any] = []
            try:
                frames = packet.decode() if packet is not None else []
            except (OSError, ValueError):
                damaged += 1
            for frame in frames:
                start = frame.time if start is None else start
                time_s = frame.time - start if frame.time is not None and start is not None else last_s + period_s
                last_s = time_s if time_s > last_s else last_s + period_s
                yield round(last_s * 1e9), _rgb(frame, height)
        if damaged:
            raise VideoError(
                f"{path} is damaged: {damaged} of its {pieces} pieces could not be decoded and are missing"
            )


def _rgb(frame: Any, height: int | None) -> NDArray[np.uint8]:
    if height is not None and frame.height > height:
        width = max(2, round(frame.width * height / frame.height / 2) * 2)
        frame = frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA")
    pixels: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
    return pixels


def _packets(container: Any, stream: Any) -> Iterator[Any]:  # Any: PyAV, which may be absent
    """What the container holds, the empty packet that flushes the decoder last."""
    try:
        yield from container.demux(stream)
    except (OSError, ValueError):
        yield _Broken()


class _Broken:
    def decode(self) -> list[Any]:
        raise ValueError("the container breaks off")
