"""From RTP to units: what a person's microphone and camera gave, with the time it was captured.

aiortc's own buffer holds four audio packets back (80 ms), stands still for 320 ms at each lost one and stays that
late; for video it waits for the first packet of the next frame. `Tap` takes the place of that buffer: it has its one
method, and passes packets on at once. This is the only module that depends on what aiortc keeps to itself; a test holds
it against the installed release.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from thalweg.pipeline.clock import Clock
from thalweg.pipeline.reorder import Reorder, Unit
from thalweg.pipeline.rtptime import CaptureClock
from thalweg.transports.webrtc.call import RATE, UNIT, Call

_JITTER_BUFFER = "_RTCRtpReceiver__jitter_buffer"
OPUS_RATE = 48_000
CONCEALED = 5


class Tap:
    """Stands where an aiortc receiver has its jitter buffer and gives each RTP packet to `take`."""

    def __init__(self, receiver: Any, take: Callable[[Any], None]) -> None:
        if not hasattr(receiver, _JITTER_BUFFER):
            raise RuntimeError("this release of aiortc keeps its jitter buffer elsewhere; use aiortc 1.9 to 1.16")
        self._take = take
        setattr(receiver, _JITTER_BUFFER, self)

    def add(self, packet: Any) -> tuple[bool, None]:
        """aiortc's call per packet: no key frame needed, no frame for its own decoder."""
        self._take(packet)
        return False, None


class AudioIn:
    """Decodes a person's Opus into units of 20 ms, mono, 16 kHz, for a call.

    A lost packet becomes the last sound fading away, over at most 100 ms, then silence.
    """

    def __init__(self, receiver: Any, call: Call, clock: Clock) -> None:
        self.reorder = Reorder()
        self.times = CaptureClock(OPUS_RATE)
        self._call = call
        self._clock = clock
        self._decoder = av.CodecContext.create("libopus", "r")
        self._resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
        self._held = np.zeros(0, np.float32)
        self._held_ns = 0
        self._last = np.zeros(UNIT, np.float32)
        self._concealed = 0
        self.broken = 0
        Tap(receiver, self._packet)

    def _packet(self, packet: Any) -> None:
        now_ns = self._clock.now_ns()
        data = getattr(packet, "_data", b"")
        if not data:
            return
        self.reorder.push(packet.sequence_number, packet.timestamp, data, now_ns)
        for unit in self.reorder.pop(now_ns):
            self._unit(unit)

    def _unit(self, unit: Unit) -> None:
        if unit.data is None or unit.timestamp is None:
            self._conceal()
            return
        capture_ns = self.times.capture_ns(unit.timestamp, unit.arrival_ns)
        try:
            samples = self._decode(unit.data)
        except (av.FFmpegError, ValueError):
            self.broken += 1
            self._conceal()
            return
        if not len(self._held):
            self._held_ns = capture_ns
        self._held = np.concatenate([self._held, samples])
        self._concealed = 0
        self._emit()

    def _decode(self, data: bytes) -> NDArray[np.float32]:
        packet = av.Packet(data)
        frames = self._decoder.decode(packet)
        parts = [part.to_ndarray()[0] for frame in frames for part in self._resampler.resample(frame)]
        return np.concatenate(parts).astype(np.float32, copy=False) if parts else np.zeros(0, np.float32)

    def _conceal(self) -> None:
        self._concealed += 1
        fade = max(0.0, 1.0 - self._concealed / CONCEALED)
        self._held = np.concatenate([self._held, self._last * np.float32(fade)])
        self._emit()

    def _emit(self) -> None:
        while len(self._held) >= UNIT:
            unit, self._held = self._held[:UNIT], self._held[UNIT:]
            self._call.heard(self._held_ns, unit)
            self._held_ns += UNIT * 1_000_000_000 // RATE
            if not self._concealed:
                self._last = unit
