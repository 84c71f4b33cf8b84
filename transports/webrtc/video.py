"""Video in both directions: pictures are decoded as soon as their last packet arrives, and encoded by the pipeline.

aiortc releases a picture when the first packet of the next one arrives, 33 ms later at 30 fps. The marker bit says
which packet is a picture's last (RFC 6184 §5.1, RFC 7741 §4.1): with everything in order nothing has to be waited for.
Where it is missing, lost or never set, a picture ends where the next time stamp begins, and in any case at
`LARGEST_PICTURE`: what a stranger sends must not fill the memory.

Going out, aiortc packs what an encoder of ours made. It would rebuild its own encoder at every change of rate over a
tenth, each time with a key frame, and clamp the rate; here the receiver's estimate (REMB) and its wish for a key frame
are told to the pipeline, at most two key frames a second.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import av
from aiortc import MediaStreamTrack
from aiortc.codecs import get_encoder
from aiortc.mediastreams import MediaStreamError

from thalweg.pipeline.clock import Clock
from thalweg.pipeline.payload import EncodedVideo, VideoFrame
from thalweg.transports.webrtc.receive import Tap, hear_reports, near
from thalweg.transports.webrtc.reorder import Reorder
from thalweg.transports.webrtc.rtp_time import CaptureClock

RATE = 90_000
PATIENCE_NS = 120_000_000
WAITING = 8
LARGEST_PICTURE = 4 << 20
LARGEST_PIXELS = 4096 * 4096
_PART = 64  # what a packet costs here beside its data
PENDING = 120
KEY_NS = 500_000_000
_ENCODER = "_RTCRtpSender__encoder"
_DECODERS = {"video/h264": "h264", "video/vp8": "libvpx"}


class VideoIn:
    """Puts packets together to pictures and decodes them, in a thread of its own.

    `give` gets the capture time and the picture, on the loop. Where the decoder falls behind, pictures are decoded but
    only the newest is given (`skipped`). `lost`: pictures with missing packets or without end; a key frame is asked for
    then. `broken`: those that cannot be decoded, or have more than `LARGEST_PIXELS`.
    """

    def __init__(
        self,
        receiver: Any,
        codec: str,
        clock: Clock,
        give: Callable[[int, VideoFrame], None],
    ) -> None:
        self.times = CaptureClock(RATE)
        self.lost = self.skipped = self.broken = 0
        self._reorder = Reorder(PATIENCE_NS, capacity=400)
        self._clock = clock
        self._give = give
        self._vp8 = codec.lower() == "video/vp8"
        self._decoder: Any = av.CodecContext.create(_DECODERS[codec.lower()], "r")
        self._decoder.thread_count = 1
        self._decoder.options = {"max_pixels": str(LARGEST_PIXELS)}
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="picture")
        self._parts: list[bytes] = []
        self._size = 0
        self._of: int | None = None
        self._endless: int | None = None
        self._first_ns = 0
        self._whole = True
        self._waiting = 0
        self._key_wanted = False
        self._closed = False
        self._timestamp: int | None = None
        self._sound: CaptureClock | None = None
        Tap(receiver, self._packet)
        hear_reports(receiver, self._reported)

    def close(self) -> None:
        """Let go of the thread. Idempotent."""
        self._closed = True
        self._thread.shutdown(wait=False, cancel_futures=True)

    def follow(self, sound: CaptureClock) -> None:
        """Take capture times from the microphone of the same sender, so that lips and voice fit (RFC 3550 §6.4.1)."""
        self._sound = sound

    def _reported(self, ntp: int, timestamp: int) -> None:
        if self._timestamp is not None:
            self.times.sender_report(ntp, near(timestamp, self._timestamp))
            if self._sound is not None:
                self.times.align(self._sound)

    def _packet(self, packet: Any) -> bool:
        """One RTP packet; True asks the sender for a key frame."""
        now_ns = self._clock.now_ns()
        data = bytes([bool(packet.marker)]) + getattr(packet, "_data", b"")
        self._reorder.push(packet.sequence_number, packet.timestamp, data, now_ns)
        for unit in self._reorder.pop(now_ns):
            if unit.data is None or unit.timestamp is None:
                self._whole = False
                self._key_wanted = True
                continue
            if self._of is not None and unit.timestamp != self._of:
                self._picture(self._of)
            if unit.timestamp != self._endless:
                self._part(unit.timestamp, unit.data[1:], unit.arrival_ns)
            if unit.data[0] and self._of is not None:
                self._picture(unit.timestamp)
        wanted, self._key_wanted = self._key_wanted, False
        return wanted

    def _part(self, timestamp: int, data: bytes, arrival_ns: int) -> None:
        """A further packet of a picture; one that becomes too large is given up, and the rest of it ignored."""
        if self._of is None:
            self._of, self._first_ns, self._endless = timestamp, arrival_ns, None
        self._parts.append(data)
        self._size += len(data) + _PART
        if self._size > LARGEST_PICTURE:
            self._endless = timestamp
            self._clear()
            self._whole = True
            self.lost += 1
            self._key_wanted = True

    def _clear(self) -> None:
        self._parts, self._size, self._of = [], 0, None

    def _picture(self, timestamp: int) -> None:
        """The picture is there as far as it comes."""
        data = b"".join(self._parts)
        self._clear()
        self._timestamp = timestamp
        whole, self._whole = self._whole, True
        if not whole:
            self.lost += 1
        if self._closed or not data:
            return
        if self._waiting >= WAITING:  # the decoder cannot keep up: begin again at a key frame
            self.lost += 1
            self._key_wanted = True
            return
        self._waiting += 1
        capture_ns = self.times.capture_ns(timestamp, self._first_ns)
        self._thread.submit(self._decode, data, capture_ns)

    def _decode(self, data: bytes, capture_ns: int) -> None:
        picture = None
        try:
            if self._vp8 and vp8_pixels(data) > LARGEST_PIXELS:
                raise ValueError
            frames = self._decoder.decode(av.Packet(data))
            if frames and self._waiting == 1:
                picture = VideoFrame(pixels=frames[-1].to_ndarray(format="rgb24"))
            elif frames:
                self.skipped += 1
        except Exception:  # of PyAV, on what a stranger sends; whatever it is, the next picture is waited for
            self.broken += 1
            self._key_wanted = True
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._decoded, capture_ns, picture)

    def _decoded(self, capture_ns: int, picture: VideoFrame | None) -> None:
        self._waiting -= 1
        if picture is not None and not self._closed:
            self._give(capture_ns, picture)


def vp8_pixels(data: bytes) -> int:
    """Pixels of the pictures that a VP8 frame begins, 0 where it begins none (RFC 6386 §9.1): libvpx allocates them
    unasked.
    """
    if len(data) < 10 or data[0] & 1 or data[3:6] != b"\x9d\x01\x2a":
        return 0
    width, height = (int.from_bytes(data[at : at + 2], "little") & 0x3FFF for at in (6, 8))
    return width * height


class Packer:
    """Stands where an aiortc sender has its encoder: packs units that are encoded already, and hears the receiver."""

    def __init__(self, sender: Any, codec: Any, clock: Clock) -> None:
        self.on_bitrate: Callable[[int], None] = lambda bitrate_bps: None
        self.on_key_wanted: Callable[[], None] = lambda: None
        self._packer = get_encoder(codec)
        self._clock = clock
        self._keyed_ns = -KEY_NS
        self._bitrate_bps = 0
        if not hasattr(sender, _ENCODER):
            raise RuntimeError("this release of aiortc keeps its encoder elsewhere; use aiortc 1.9 to 1.16")
        setattr(sender, _ENCODER, self)
        sender._send_keyframe = self._key

    def pack(self, packet: Any) -> tuple[list[bytes], int]:
        """RTP payloads of one unit, and its timestamp."""
        packed: tuple[list[bytes], int] = self._packer.pack(packet)
        return packed

    @property
    def target_bitrate(self) -> int:
        """What the receiver estimated last, bit/s; aiortc sets it at each REMB."""
        return self._bitrate_bps

    @target_bitrate.setter
    def target_bitrate(self, bitrate_bps: int) -> None:
        self._bitrate_bps = bitrate_bps
        self.on_bitrate(bitrate_bps)

    def _key(self) -> None:
        now_ns = self._clock.now_ns()
        if now_ns - self._keyed_ns >= KEY_NS:
            self._keyed_ns = now_ns
            self.on_key_wanted()


class PictureTrack(MediaStreamTrack):
    """What a person sees: encoded units as they come. Where the sender falls behind, those before a key unit are
    dropped when that comes; where too many wait, all of them, and what cannot be decoded without them (`dropped`).
    """

    kind = "video"

    def __init__(self) -> None:
        super().__init__()
        self.dropped = 0
        self._broken_off = False
        self._units: deque[tuple[int, bytes]] = deque()
        self._came = asyncio.Event()
        self._start_ns: int | None = None

    def show(self, time_ns: int, unit: EncodedVideo) -> None:
        """Send a unit that was captured at `time_ns`. Never waits."""
        if unit.key or len(self._units) >= PENDING:
            self._broken_off = not unit.key
            self.dropped += len(self._units)
            self._units.clear()
        if self._broken_off:
            self.dropped += 1
            return
        self._units.append((time_ns, unit.data))
        self._came.set()

    async def recv(self) -> Any:  # Any: a packet of PyAV
        """The next unit."""
        while not self._units:
            if self.readyState != "live":
                raise MediaStreamError
            self._came.clear()
            await self._came.wait()
        time_ns, data = self._units.popleft()
        if self._start_ns is None:
            self._start_ns = time_ns
        packet: Any = av.Packet(data)
        packet.pts = (time_ns - self._start_ns) * RATE // 1_000_000_000
        packet.time_base = Fraction(1, RATE)
        return packet

    def stop(self) -> None:
        """End, and wake a task that waits."""
        super().stop()
        self._came.set()
