"""Recordings that tests make themselves: tones in the formats PyAV writes, and WAV files byte by byte."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thalweg.stages.io.media import MediaError
from thalweg.stages.io.sound import decoded

Samples = NDArray[np.float32]


def tone(seconds: float, rate: int = 16_000, hz: float = 440.0) -> Samples:
    """Half of full scale."""
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def wav(samples: Samples, rate: int = 16_000, *, size: int | None = None, form: int = 1, extra: bytes = b"") -> bytes:
    """A WAV file of 16-bit integers (`form` 1) or floats (3). `size`: what its head says; the truth if left out."""
    data = samples.astype("<f4").tobytes() if form == 3 else (samples * 32767).astype("<i2").tobytes()
    width = 4 if form == 3 else 2
    said = len(data) if size is None else size
    head = struct.pack("<HHIIHH", form, 1, rate, rate * width, width, 8 * width)
    riff = min(4 + 24 + len(extra) + 8 + said, 0xFFFFFFFF)
    chunks = b"WAVE" + extra + b"fmt " + struct.pack("<I", 16) + head + b"data" + struct.pack("<I", said)
    return b"RIFF" + struct.pack("<I", riff) + chunks + data


def encoded(
    path: Path, codec: str, samples: Samples, rate: int, *, layout: str = "mono", container: str | None = None
) -> bytes:
    """What PyAV writes of it."""
    import av

    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate, layout=layout)
        channels = 2 if layout == "stereo" else 1
        frame = av.AudioFrame.from_ndarray(np.repeat(samples[:, None], channels, 1).reshape(1, -1), "flt", layout)
        frame.sample_rate = rate
        resampler = av.AudioResampler(stream.codec_context.format.name, layout, rate)
        fifo = av.AudioFifo()
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            part.pts = None
            fifo.write(part)
        size = stream.codec_context.frame_size or 1024
        at = 0
        while (piece := fifo.read(size, partial=True)) is not None:
            piece.pts, at = at, at + piece.samples
            out.mux(stream.encode(piece))
        out.mux(stream.encode(None))
    return path.read_bytes()


def heard(path: Path, rate: int = 16_000) -> tuple[Samples, list[str], str]:
    """Everything, what was worth knowing, and the error it ended with."""
    notes: list[str] = []
    found: list[Samples] = []
    try:
        found.extend(decoded(path, rate, 320, note=notes.append))
    except MediaError as error:
        return np.concatenate([*found, np.zeros(0, np.float32)]), notes, str(error)
    return np.concatenate(found), notes, ""


def pitch(samples: Samples, rate: int = 16_000) -> float:
    """The strongest frequency, Hz."""
    return float(np.abs(np.fft.rfft(samples * np.hanning(len(samples)))).argmax() * rate / len(samples))


@contextmanager
def piped(content: bytes, piece: int = 5_000) -> Iterator[Path]:
    """The reading end of a pipe into which somebody writes `content` piece by piece."""
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb", buffering=0) as out:
            for start in range(0, len(content), piece):
                try:
                    out.write(content[start : start + piece])
                except BrokenPipeError:
                    return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield Path(f"/dev/fd/{reading}")
    finally:
        os.close(reading)
        writer.join()
