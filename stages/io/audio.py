"""Where audio comes from: files and microphones. Both give mono float32 in short units with capture times."""

from __future__ import annotations

import asyncio
import wave
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

Rate = Annotated[int, Field(ge=8000, le=48000, description="samples per second of what is emitted, Hz")]


class AudioError(ThalwegError):
    """Audio that cannot be read, recorded or written."""


class AudioFile:
    """Reads an audio file, in any format FFmpeg knows, as mono audio.

    At `pace: realtime` units come when a microphone would have given them; at `full` as fast as they are
    taken. Either way they carry the times they would have been captured at. Memory does not grow with the
    length of the file.
    """

    outputs = {"audio": AudioChunk}

    def __init__(
        self,
        path: Annotated[Path, Field(description="the file to read")],
        rate: Rate = 16_000,
        unit: Annotated[Duration, Field(description="length of one packet")] = 20 * MS,
        pace: Annotated[
            Literal["realtime", "full"], Field(description="as a microphone would, or as fast as possible")
        ] = "realtime",
    ) -> None:
        self._path = path
        self._rate = rate
        self._samples = max(1, rate * unit // 1_000_000_000)
        self._realtime = pace == "realtime"
        self._start_ns: int | None = None
        self._done = 0

    def open(self, ctx: Context) -> None:
        """Raises AudioError unless the file is there and begins like audio."""
        self._units = decoded(self._path, self._rate, self._samples)
        self._first = next(self._units, None)
        if self._first is None:
            raise AudioError(f"{self._path} holds no audio samples")

    def snapshot(self) -> dict[str, Any]:
        """How far it was read."""
        return {"start_ns": self._start_ns, "done": self._done}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there when it runs."""
        self._start_ns, self._done = state["start_ns"], state["done"]

    async def run(self, ctx: Context) -> None:
        """Emit the file, unit by unit; what could be decoded of a damaged file is emitted before the error."""
        start_ns = self._start_ns = ctx.now_ns() if self._start_ns is None else self._start_ns
        done, had = 0, self._done
        units, damage = [self._first], None
        while units:
            for samples in units:
                assert samples is not None
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
            units, damage = await ctx.compute(_some, self._units, 50)
        if damage is not None:
            raise damage


def _some(units: Iterator[NDArray[np.float32]], n: int) -> tuple[list[NDArray[np.float32]], AudioError | None]:
    """The next units, at most `n`, and what ended them if they ended in damage."""
    found: list[NDArray[np.float32]] = []
    try:
        for unit in units:
            found.append(unit)
            if len(found) == n:
                break
    except AudioError as error:
        return found, error
    return found, None


def decoded(path: Path, rate: int, size: int) -> Iterator[NDArray[np.float32]]:
    """Units of `size` samples, mono float32 at `rate`; the last one may be shorter."""
    import av

    try:
        container = av.open(str(path))
    except FileNotFoundError:
        raise AudioError(f"{path} does not exist") from None
    except (OSError, ValueError) as error:
        raise AudioError(f"{path} is not an audio file: {getattr(error, 'strerror', None) or error}") from None
    with container:
        if not container.streams.audio:
            raise AudioError(f"{path} has no audio stream")
        stream = container.streams.audio[0]
        stream.codec_context.options = {"err_detect": "crccheck+bitstream+buffer"}
        resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
        held = np.zeros(0, np.float32)
        pieces = damaged = 0
        promised_s = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
        promised_s = max(promised_s, _wav_length_s(path))
        heard_s = 0.0
        for packet in _packets(container, stream):
            frames: list[Any] = []
            pieces += 1
            try:
                frames = packet.decode() if packet is not None else [None]
            except (OSError, ValueError):
                damaged += 1
            for frame in frames:
                if frame is not None:
                    heard_s += frame.samples / frame.sample_rate
                held = np.concatenate([held, *(f.to_ndarray()[0] for f in resampler.resample(frame))])
            for start in range(0, len(held) - size + 1, size):
                yield held[start : start + size]
            held = held[len(held) // size * size :]
        if len(held):
            yield held
        if damaged:
            raise AudioError(
                f"{path} is damaged: {damaged} of its {pieces} pieces could not be decoded and are missing"
            )
        if heard_s < 0.98 * promised_s - 0.1:
            raise AudioError(f"{path} is cut short: it says {promised_s:.1f} s and holds {heard_s:.1f} s")


def _wav_length_s(path: Path) -> float:
    """What the header of a PCM WAV file says; FFmpeg believes the size of the file instead. 0 for all others."""
    try:
        with wave.open(str(path)) as header:
            return float(header.getnframes() / header.getframerate())
    except (wave.Error, EOFError, OSError, ZeroDivisionError):
        return 0.0


def _packets(container: Any, stream: Any) -> Iterator[Any]:  # Any: PyAV, which may be absent
    """What the container holds; a container that breaks off ends like one piece that cannot be decoded. Then None."""
    try:
        yield from container.demux(stream)
    except (OSError, ValueError):
        yield _Broken()
    yield None


class _Broken:
    def decode(self) -> list[Any]:
        raise ValueError("the container breaks off")


class Microphone:
    """Records from a sound card until the pipeline is stopped.

    If the pipeline cannot keep up for a second, audio is lost; how much is reported, never hidden.
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
