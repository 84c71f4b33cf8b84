"""From play-out to RTP: one Opus packet every 20 ms by the clock, however busy the event loop is."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
import numpy as np
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from numpy.typing import NDArray

from thalweg.pipeline.clock import Clock
from thalweg.transports.webrtc.call import Call

RATE = 48_000
BLOCK = 960
BLOCK_NS = 20_000_000
LATE_NS = 200_000_000


class OpusEncoder:
    """Mono speech, 20 ms at a time, with redundancy for lost packets in the stream itself (RFC 6716 §2.1.7)."""

    def __init__(self, bitrate_bps: int = 32_000) -> None:
        self._codec: Any = av.CodecContext.create("libopus", "w")
        self._codec.bit_rate = bitrate_bps
        self._codec.format = "s16"
        self._codec.layout = "mono"
        self._codec.sample_rate = RATE
        self._codec.time_base = Fraction(1, RATE)
        self._codec.options = {"application": "voip", "fec": "1", "packet_loss": "5", "frame_duration": "20"}
        self._pts = 0

    def encode(self, samples: NDArray[np.float32]) -> bytes:
        """One packet for [960] float32 at 48 kHz."""
        pcm = (np.clip(samples, -1.0, 1.0) * 32767.0).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate = RATE
        frame.pts = self._pts
        frame.time_base = Fraction(1, RATE)
        self._pts += len(samples)
        return b"".join(bytes(packet) for packet in self._codec.encode(frame))


class OpusPackets:
    """Packets of 20 ms, each given at its time by the clock, never early.

    A loop that was held up catches up packet by packet; after more than 200 ms the missed time is skipped, so that
    playback never lags.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._encoder = OpusEncoder()
        self._start_ns = 0
        self._blocks = 0

    async def next(self, block: Callable[[], NDArray[np.float32]]) -> Any:  # Any: a packet of PyAV
        """Wait for the time of the next packet, then encode what `block` gives."""
        now_ns = self._clock.now_ns()
        if self._blocks == 0:
            self._start_ns = now_ns
        due_ns = self._start_ns + self._blocks * BLOCK_NS
        if due_ns > now_ns:
            await asyncio.sleep((due_ns - now_ns) / 1e9)
        late_ns = self._clock.now_ns() - due_ns
        if late_ns > LATE_NS:
            self._blocks += late_ns // BLOCK_NS
        packet: Any = av.Packet(self._encoder.encode(block()))
        packet.pts = self._blocks * BLOCK
        packet.time_base = Fraction(1, RATE)
        self._blocks += 1
        return packet


class SpeechTrack(MediaStreamTrack):
    """What a person hears: aiortc asks for packets and gets what `call` plays now."""

    kind = "audio"

    def __init__(self, call: Call) -> None:
        super().__init__()
        self.packets = OpusPackets(call.clock)
        self.call = call

    async def recv(self) -> Any:  # Any: a packet of PyAV, generic in some releases only
        """The next packet, at its time."""
        if self.readyState != "live":
            raise MediaStreamError
        return await self.packets.next(lambda: self.call.play(BLOCK))


class VoiceTrack(MediaStreamTrack):
    """What we say, paced by the clock: silence, and between it what was put in by `say`."""

    kind = "audio"

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._packets = OpusPackets(clock)
        self._queue: deque[tuple[NDArray[np.float32], asyncio.Future[int]]] = deque()
        self._at = 0

    def say(self, samples: NDArray[np.float32]) -> asyncio.Future[int]:
        """Say `samples`, [time] float32 at 48 kHz, after what is being said. Gives the time when the last was sent."""
        said: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._queue.append((samples, said))
        return said

    def continue_from(self, before: VoiceTrack) -> None:
        """Say first what `before` was to say and has not said; it says nothing more."""
        self._queue.extendleft(reversed(before._queue))
        self._at, before._at = before._at, 0
        before._queue.clear()

    async def recv(self) -> Any:  # Any: a packet of PyAV
        """The next packet, at its time."""
        if self.readyState != "live":
            raise MediaStreamError
        return await self._packets.next(self._block)

    def _block(self) -> NDArray[np.float32]:
        block = np.zeros(BLOCK, np.float32)
        filled = 0
        while self._queue and filled < BLOCK:
            samples, said = self._queue[0]
            part = samples[self._at : self._at + BLOCK - filled]
            block[filled : filled + len(part)] = part
            filled += len(part)
            self._at += len(part)
            if self._at >= len(samples):
                self._queue.popleft()
                self._at = 0
                if not said.done():
                    said.set_result(self._clock.now_ns() - BLOCK_NS + filled * BLOCK_NS // BLOCK)
        return block
