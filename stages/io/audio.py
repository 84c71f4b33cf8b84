"""Where audio comes from: files and microphones. Both give mono float32 in short units with capture times."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from thalweg.pipeline.duration import MS, Duration
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.payload import AudioChunk
from thalweg.pipeline.stage import Context
from thalweg.stages.io.media import Media, MediaError
from thalweg.stages.io.reading import comes_by_pipe
from thalweg.stages.io.sound import decoded

_BATCH = 50
_AT_ONCE_S = 0.02
Rate = Annotated[int, Field(ge=8000, le=48000, description="samples per second of what is emitted, Hz")]


class AudioError(ThalwegError):
    """Audio that cannot be recorded."""


class AudioFile:
    """Reads an audio file, in any format FFmpeg knows, as mono audio.

    At `pace: realtime` units are emitted when a microphone would have given them; at `full` as fast as they are
    consumed. In both cases their times are those of the capture: gaps in the time stamps of the file become silence. A
    pipe (`/dev/stdin`, `-`) is read once, as it is written. Memory does not grow with the length of the file.
    """

    outputs = {"audio": AudioChunk}

    def __init__(
        self,
        path: Annotated[Path, Field(description="the file or pipe to read; `-` for standard input")],
        rate: Rate = 16_000,
        unit: Annotated[Duration, Field(description="length of one packet")] = 20 * MS,
        pace: Annotated[
            Literal["realtime", "full"], Field(description="as a microphone would, or as fast as possible")
        ] = "realtime",
        track: Annotated[
            int | None,
            Field(ge=1, description="number of the sound track, from 1; default: the one that players choose"),
        ] = None,
    ) -> None:
        self._path = Path(path)
        self._rate = rate
        self._samples = max(1, rate * unit // 1_000_000_000)
        self._realtime = pace == "realtime"
        self._track = track
        self._start_ns: int | None = None
        self._done = 0
        self._stop = threading.Event()
        self._live = False
        self._first: list[NDArray[np.float32]] = []
        self._units: Iterator[NDArray[np.float32]] = iter(())
        self._media: Media | None = None

    @property
    def at_s(self) -> float:
        """The second of the recording that it has come to."""
        return self._done / self._rate

    @property
    def share(self) -> float | None:
        """How much of the file was read, 0…1; None where that cannot be known."""
        return self._media.share if self._media is not None else None

    def open(self, ctx: Context) -> None:
        """Raises MediaError unless the file is there and begins like audio. A pipe is not waited for."""
        self._live = comes_by_pipe(self._path)
        self._units = decoded(
            self._path, self._rate, self._samples, track=self._track, stop=self._stop, watch=self._watch
        )
        self._first = [] if self._live else [next(self._units)]

    def close(self) -> None:
        """Wait for a pipe no more."""
        self._stop.set()

    def _watch(self, media: Media) -> None:
        self._media = media

    def snapshot(self) -> dict[str, Any]:
        """How far it was read."""
        return {"start_ns": self._start_ns, "done": self._done}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there when it runs; of a pipe with what comes next, since what came is gone."""
        self._start_ns, self._done = state["start_ns"], state["done"]

    async def run(self, ctx: Context) -> None:
        """Emit the file, unit by unit; what could be decoded of a damaged file is emitted before the error."""
        units, damage = self._first, None
        if self._live:
            units, damage = await ctx.compute(_some, self._units)
        start_ns = self._start_ns = ctx.now_ns() if self._start_ns is None else self._start_ns
        had = self._done
        done = had if self._live else 0
        while units:
            for samples in units:
                time_ns = start_ns + done * 1_000_000_000 // self._rate
                done += len(samples)
                if done <= had:
                    continue
                if self._realtime:
                    await ctx.sleep_until(start_ns + done * 1_000_000_000 // self._rate)
                self._done = done
                await ctx.send(AudioChunk(samples=samples, rate=self._rate), time=time_ns)
            if damage is not None:
                raise damage
            units, damage = await ctx.compute(_some, self._units)
        if damage is not None:
            raise damage


def _some(units: Iterator[NDArray[np.float32]]) -> tuple[list[NDArray[np.float32]], MediaError | None]:
    """The next units, no more than can be had at once, and what ended them if they ended in damage."""
    found: list[NDArray[np.float32]] = []
    until_s = time.monotonic() + _AT_ONCE_S
    try:
        for unit in units:
            found.append(unit)
            if len(found) == _BATCH or time.monotonic() > until_s:
                break
    except MediaError as error:
        return found, error
    return found, None


class Microphone:
    """Records from a sound card until the pipeline is stopped.

    If the pipeline falls more than a second behind, audio is lost; the amount is reported.
    """

    outputs = {"audio": AudioChunk}

    def __init__(
        self,
        device: Annotated[str | None, Field(description="name or part of it; the system's default if left out")] = None,
        rate: Rate = 16_000,
        unit: Annotated[Duration, Field(description="length of one packet")] = 20 * MS,
    ) -> None:
        self._device = device
        self._rate = rate
        self._samples = max(1, rate * unit // 1_000_000_000)

    async def run(self, ctx: Context) -> None:
        """Record. Raises AudioError where there is nothing to record with."""
        try:
            import sounddevice
        except (ImportError, OSError) as error:
            raise AudioError(
                f"no microphone: {error}. Install it: pip install 'thalweg[microphone]', and the system's PortAudio"
            ) from None
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[tuple[int, NDArray[np.float32]]] = asyncio.Queue(maxsize=50)
        lost = 0

        def put(time_ns: int, samples: NDArray[np.float32]) -> None:
            nonlocal lost
            if queue.full():
                lost += 1
            else:
                queue.put_nowait((time_ns, samples))

        def recorded(data: NDArray[np.float32], frames: int, _time: Any, _status: Any) -> None:  # Any: C structures
            time_ns = ctx.now_ns() - frames * 1_000_000_000 // self._rate
            loop.call_soon_threadsafe(put, time_ns, data[:, 0].copy())

        try:
            stream = sounddevice.InputStream(
                samplerate=self._rate,
                blocksize=self._samples,
                device=self._device,
                channels=1,
                dtype="float32",
                callback=recorded,
            )
        except (sounddevice.PortAudioError, ValueError) as error:
            raise AudioError(f"cannot record from {self._device or 'the default device'}: {error}") from None
        with stream:
            while True:
                time_ns, samples = await queue.get()
                await ctx.send(AudioChunk(samples=samples, rate=self._rate), time=time_ns)
                if lost:
                    ctx.report(f"{lost} units of audio were lost: the pipeline did not keep up")
                    lost = 0
