"""Converts decoded audio of any kind to mono float32 at one rate, with every sample at its place in time.

What a decoder gives is not yet that: rates and channels change within a stream, samples are NaN or on the scale of
integers, and where a recorder paused the time stamps jump. A jump forward becomes silence, so that what comes later
comes at its time; a jump back (another recording begins) is none.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.stages.io.media import Media, MediaError, Recording, log, opened
from thalweg.stages.io.timeline import Timeline

_STAMPED = ("mov", "matroska", "ogg", "flac", "mpegts", "mpeg", "asf", "avi", "flv", "rm", "nut", "mxf")
"""Formats that hold time stamps. In others FFmpeg counts frames, as if all were as long as the first."""
_UNBROKEN = ("ogg", "flac")
"""Formats that know no pauses: where time is missing, sound is."""
_TOLD_S = 1.0
_LOUD = 8.0
"""18 dB over full scale: no mix is so loud, and the softest speech on the scale of 16 bit is louder."""
_SCALES = (32768.0, 8388608.0, 2147483648.0)
_WIDE_BAND = 16_000

Samples = NDArray[np.float32]


def decoded(
    path: Path,
    rate: int,
    size: int,
    *,
    track: int | None = None,
    note: Callable[[str], None] = log.warning,
    stop: threading.Event | None = None,
    watch: Callable[[Media], object] = lambda media: None,
) -> Iterator[Samples]:
    """Units of `size` samples, mono float32 at `rate`; the last one may be shorter. `note`: told what to know, once.
    `watch`: given what was opened.

    Memory does not grow. Raises MediaError: at once where there is no sound, and after the last unit where some is
    missing.
    """
    held: list[Samples] = []
    count = 0
    damage: MediaError | None = None
    with opened(path, "audio", track=track, note=note, stop=stop) as media:
        watch(media)
        ear = _Ear(media.name, rate, note)
        try:
            for recording in media.recordings():
                for block in ear.hear(recording):
                    held.append(block)
                    count += len(block)
                    if count >= size:
                        whole = np.concatenate(held)
                        for start in range(0, count - size + 1, size):
                            yield whole[start : start + size]
                        held = [whole[count // size * size :]]
                        count = len(held[0])
                media.held_s, media.lost_s = ear.at_s, ear.lost_s
            if ear.paused_s >= _TOLD_S:
                note(
                    f"{media.name} has no sound for {ear.paused_s:.1f} s, as its time stamps say: silence stands there"
                )
            if ear.given:
                media.ended()
            else:
                little = f"{1000 * ear.at_s:.0f} ms of sound, too little to be read" if ear.at_s else "no audio samples"
                damage = MediaError(f"{media.name} holds {little}")
        except MediaError as error:
            damage = error
        if count:
            yield np.concatenate(held)
        if damage is not None:
            raise damage


class _Ear:
    """Turns frames into samples.

    `at_s`: the moment it has come to; `given`: the samples that came out so far; `paused_s`, `lost_s`: the silence
    among them that is for pauses of the recorder, and for what is missing.
    """

    def __init__(self, name: str, rate: int, note: Callable[[str], None]) -> None:
        self.at_s = self.paused_s = self.lost_s = 0.0
        self.given = 0
        self._name = name
        self._rate = rate
        self._note = note
        self._said: set[str] = set()
        self._scale = 1.0
        self._resampler: Any = None  # Any: PyAV's
        self._form: tuple[Any, ...] = ()

    def hear(self, recording: Recording) -> Iterator[Samples]:
        """The samples of a recording, in blocks of any length."""
        codec = recording.stream.codec_context
        codec.options = {"err_detect": "crccheck+bitstream+buffer"}
        plain = str(codec.name).startswith("pcm_f")
        tracks = len(recording.container.streams.audio)
        if tracks > 1:
            self._say("tracks", f"holds {tracks} sound tracks; number {recording.number} is read")
        timeline = Timeline(recording, self.at_s) if recording.format in _STAMPED else None
        for frame in recording.frames():
            if not frame.samples:
                continue
            if timeline is not None and frame.time is not None:
                yield from self._paused(timeline.pause(frame.time, self.at_s), recording.format in _UNBROKEN)
                if timeline.jumped_s:
                    jump = f"jumps by {timeline.jumped_s:.0f} s in its time stamps after {self.at_s:.1f} s, left out"
                    self._say("jump", jump)
            yield from self._resampled(frame, plain)
        yield from self._flushed()

    def _paused(self, length_s: float, lost: bool) -> Iterator[Samples]:
        if not length_s:
            return
        if lost:
            self.lost_s += length_s
        elif length_s >= _TOLD_S:
            self.paused_s += length_s
        yield from self._flushed()
        self.at_s += length_s
        while (missing := round(self.at_s * self._rate) - self.given) > 0:
            yield from self._counted(np.zeros(min(missing, self._rate), np.float32))

    def _resampled(self, frame: Any, plain: bool) -> Iterator[Samples]:
        import av

        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        if form != self._form:
            yield from self._flushed()
            self._form = form
            self._resampler = av.AudioResampler(format="flt", layout="mono", rate=self._rate)
            if frame.sample_rate < _WIDE_BAND <= self._rate:
                self._say(
                    "rate",
                    f"was recorded at {frame.sample_rate} Hz, as telephones do: speech recognition "
                    f"makes more mistakes with nothing above {frame.sample_rate // 2} Hz",
                )
        self.at_s += frame.samples / frame.sample_rate
        if frame.format.name.startswith(("flt", "dbl")):
            frame = self._cleaned(frame, plain)
        for part in self._resampler.resample(frame):
            yield from self._counted(part.to_ndarray()[0] / np.float32(self._scale))

    def _flushed(self) -> Iterator[Samples]:
        if self._resampler is not None:
            for part in self._resampler.resample(None):
                yield from self._counted(part.to_ndarray()[0] / np.float32(self._scale))
        self._resampler, self._form = None, ()

    def _counted(self, block: Samples) -> Iterator[Samples]:
        self.given += len(block)
        yield block

    def _cleaned(self, frame: Any, plain: bool) -> Any:
        """Put silence for what is no number, and find out the scale of what was written as plain floats."""
        import av

        values = frame.to_ndarray()
        if not np.isfinite(values.sum()) and not (finite := np.isfinite(values)).all():
            self._say("number", f"holds samples that are no numbers, the first {self.at_s:.2f} s in: they are silence")
            values = np.where(finite, values, 0).astype(values.dtype)
            clean = av.AudioFrame.from_ndarray(values, format=frame.format.name, layout=frame.layout.name)
            clean.sample_rate, clean.pts, clean.time_base = frame.sample_rate, frame.pts, frame.time_base
            frame = clean
        if plain:
            peak = float(np.abs(values).max(initial=0.0))
            if peak >= 2 * self._scale and (peak > _LOUD * self._scale or (values == np.rint(values)).all()):
                self._scale = next((scale for scale in _SCALES if peak <= 2 * scale), _SCALES[-1])
                self._say(
                    "scale",
                    f"holds samples beyond 1.0, the loudest there is ({peak:.0f}, {self.at_s:.2f} s in): they are "
                    f"taken to be on the scale of integers, and divided by {self._scale:.0f}",
                )
        return frame

    def _say(self, what: str, sentence: str) -> None:
        if what not in self._said:
            self._said.add(what)
            self._note(f"{self._name} {sentence}")
