"""From RTP to units: what a person's microphone and camera gave, with the time it was captured.

aiortc's own buffer holds four audio packets back (80 ms), stands still for 320 ms at each lost one and stays that
late; for video it waits for the first packet of the next frame. `Tap` takes the place of that buffer: it has its one
method, and passes packets on at once. What is used here of what aiortc keeps to itself, a test holds against the
installed release, as for `dtls.py`, `guard.py` and `video.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import av
import numpy as np
from aiortc.rtp import RtcpSrPacket
from numpy.typing import NDArray

from thalweg.pipeline.clock import Clock
from thalweg.transports.webrtc.call import RATE, UNIT, Call
from thalweg.transports.webrtc.reorder import MediaUnit, Reorder
from thalweg.transports.webrtc.rtp_time import CaptureClock

_JITTER_BUFFER = "_RTCRtpReceiver__jitter_buffer"
OPUS_RATE = 48_000
OPUS_UNIT = 960
OPUS_UNIT_NS = 20_000_000
CREDIT_NS = 1_000_000_000
CONCEALED = 5


class Tap:
    """Stands where an aiortc receiver has its jitter buffer and gives each RTP packet to `take`.

    Where `take` returns True, the sender is asked for a key frame (PLI).
    """

    def __init__(self, receiver: Any, take: Callable[[Any], bool | None]) -> None:
        if not hasattr(receiver, _JITTER_BUFFER):
            raise RuntimeError("this release of aiortc keeps its jitter buffer elsewhere; use aiortc 1.9 to 1.16")
        self._take = take
        setattr(receiver, _JITTER_BUFFER, self)

    def add(self, packet: Any) -> tuple[bool, None]:
        """aiortc's call per packet: whether a key frame is wanted, and nothing for its own decoder."""
        return bool(self._take(packet)), None


def hear_reports(receiver: Any, report: Callable[[int, int], None]) -> None:
    """`report` gets the sender's time (NTP, 32.32) and the RTP timestamp of each sender report."""
    handle = receiver._handle_rtcp_packet

    async def heard(packet: Any) -> None:
        if isinstance(packet, RtcpSrPacket):
            report(packet.sender_info.ntp_timestamp, packet.sender_info.rtp_timestamp)
        await handle(packet)

    receiver._handle_rtcp_packet = heard


def near(timestamp: int, other: int) -> int:
    """A timestamp of 32 bits in the numbering of `other`, which does not wrap and is less than half a range away."""
    return other + ((timestamp - other + (1 << 31)) % (1 << 32)) - (1 << 31)


def only_opus(transceiver: Any) -> bool:
    """Of the codecs that both sides know, keep Opus; False where it is not among them."""
    transceiver._codecs = [codec for codec in transceiver._codecs if codec.mimeType.lower() == "audio/opus"]
    return bool(transceiver._codecs)


def prefer_h264(transceiver: Any) -> bool:
    """Put H.264 before VP8, which is kept as the other one; False where there is neither."""
    order = ("video/h264", "video/vp8", "video/rtx")
    kept = [codec for codec in transceiver._codecs if codec.mimeType.lower() in order]
    transceiver._codecs = sorted(kept, key=lambda codec: order.index(codec.mimeType.lower()))
    return any(codec.mimeType.lower() != "video/rtx" for codec in kept)


class OpusIn:
    """Puts the packets of one Opus stream in order and decodes them, mono at 48 kHz.

    `give` gets samples, when the packet arrived or, where that was lost (`lost`), when this became clear. A lost packet
    becomes the last sound fading away, over at most 100 ms, then silence. Lost sound is made up for no faster than time
    passes, but for a second: numbers that jump ahead, which cost nothing to send, are no hours of silence to listen to.
    """

    def __init__(self, give: Callable[[NDArray[np.float32], int, bool], None]) -> None:
        self.reorder = Reorder()
        self.broken = 0
        self.timestamp: int | None = None
        self._give = give
        self._decoder: Any = av.CodecContext.create("libopus", "r")
        self._mono: Any = av.AudioResampler(format="flt", layout="mono", rate=OPUS_RATE)
        self._last = np.zeros(OPUS_UNIT, np.float32)
        self._concealed = 0
        self._credit_ns = CREDIT_NS
        self._last_ns = 0

    def close(self) -> None:
        """Free the decoder. Nothing may come after."""
        self._decoder = self._mono = None

    def packet(self, packet: Any, now_ns: int) -> None:
        """An RTP packet came."""
        data = getattr(packet, "_data", b"")
        if not data:
            return
        self.reorder.push(packet.sequence_number, packet.timestamp, data, now_ns)
        for unit in self.reorder.pop(now_ns):
            self._unit(unit)

    def _unit(self, unit: MediaUnit) -> None:
        self.timestamp = unit.timestamp
        samples = None
        if unit.data is not None:
            try:
                frames = self._decoder.decode(av.Packet(unit.data))
                parts = [part.to_ndarray()[0] for frame in frames for part in self._mono.resample(frame)]
                samples = np.concatenate(parts).astype(np.float32, copy=False) if parts else np.zeros(0, np.float32)
            except (av.FFmpegError, ValueError):
                self.broken += 1
        if unit.arrival_ns > self._last_ns:
            self._credit_ns = min(self._credit_ns, CREDIT_NS) + unit.arrival_ns - self._last_ns
            self._last_ns = unit.arrival_ns
        if samples is None and self._credit_ns < OPUS_UNIT_NS:
            return
        self._credit_ns = max(0, self._credit_ns - OPUS_UNIT_NS)
        if samples is None:
            self._concealed += 1
            fade = max(0.0, 1.0 - self._concealed / CONCEALED)
            self._give(self._last * np.float32(fade), unit.arrival_ns, True)
        else:
            self._concealed, self._last = 0, samples
            self._give(samples, unit.arrival_ns, False)


class AudioIn:
    """A person's microphone as units of 20 ms, mono, 16 kHz, with capture times, for `call`."""

    def __init__(self, receiver: Any, call: Call, clock: Clock) -> None:
        self.times = CaptureClock(OPUS_RATE)
        self.opus = OpusIn(self._decoded)
        self.call = call
        self._resampler: Any = av.AudioResampler(format="flt", layout="mono", rate=RATE)
        self._closed = False
        self._held = np.zeros(0, np.float32)
        self._held_ns = 0
        self._clock = clock
        Tap(receiver, self._packet)
        hear_reports(receiver, self._reported)

    def close(self) -> None:
        """Free the decoder and what it feeds, which hold threads of their own. Idempotent; packets are ignored then."""
        self._closed = True
        self.opus.close()
        self._resampler = None

    def _reported(self, ntp: int, timestamp: int) -> None:
        if self.opus.timestamp is not None:
            self.times.sender_report(ntp, near(timestamp, self.opus.timestamp))

    def _packet(self, packet: Any) -> None:
        if self._closed:
            return
        self.opus.packet(packet, self._clock.now_ns())

    def _decoded(self, samples: NDArray[np.float32], arrival_ns: int, lost: bool) -> None:
        if not lost and self.opus.timestamp is not None:
            capture_ns = self.times.capture_ns(self.opus.timestamp, arrival_ns)
            self._held_ns = capture_ns - len(self._held) * 1_000_000_000 // RATE
        frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
        frame.sample_rate = OPUS_RATE
        parts = [part.to_ndarray()[0] for part in self._resampler.resample(frame)]
        self._held = np.concatenate([self._held, *parts])
        while len(self._held) >= UNIT:
            unit, self._held = self._held[:UNIT].astype(np.float32, copy=False), self._held[UNIT:]
            self.call.heard(self._held_ns, unit)
            self._held_ns += UNIT * 1_000_000_000 // RATE
