"""How old a picture is when it has been decoded at the other end: ours next to plain aiortc, in turns, in one run.

Two peers in one process, over the loopback of this machine, H.264, 30 fps, 1 Mbit/s at 640×480, 2 Mbit/s at 1280×720. A
synthetic scene (moving gradients with noise); each picture carries its number as a row of black and white blocks, so
the receiver knows when the picture it has decoded was given to the sender. `slow consumer`: who looks takes 100 ms for
each; the age is that of the picture when they begin.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any
from unittest import mock

import av
import numpy as np
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCRtpSender, VideoStreamTrack
from numpy.typing import NDArray

from thalweg.deploy.bench.result import OURS, Result, quantile
from thalweg.pipeline.clock import SystemClock
from thalweg.pipeline.payload import EncodedVideo, VideoFrame
from thalweg.stages.video.coder import Coder
from thalweg.transports.webrtc.call import Call
from thalweg.transports.webrtc.video import Packer, PictureTrack, VideoIn

FPS = 30
BITS = 16
BLOCK = 16
SIZES = ((640, 480, 1_000_000), (1280, 720, 2_000_000))
WARM_UP = 15
SLOW_S = 0.1


class Scene:
    """Pictures with their number in them."""

    def __init__(self, width: int, height: int) -> None:
        random = np.random.default_rng(1)
        self._back = (np.linspace(0, 200, width)[None, :, None] + random.normal(0, 6, (height, width, 3))).clip(0, 255)

    def picture(self, number: int) -> NDArray[np.uint8]:
        """Picture `number`, [height, width, 3]."""
        pixels = np.roll(self._back, 2 * number, axis=1).astype(np.uint8)
        for bit in range(BITS):
            pixels[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 255 * (number >> bit & 1)
        return pixels


def number_in(pixels: NDArray[np.uint8]) -> int:
    """The number a picture carries."""
    middle = pixels[BLOCK // 2, BLOCK // 2 : BITS * BLOCK : BLOCK].reshape(BITS, -1).mean(axis=1)
    return sum(int(level > 127) << bit for bit, level in enumerate(middle))


def measure(result: Result, quick: bool) -> None:
    """Fill in the rows."""
    rounds, count = (1, 45) if quick else (3, 150)
    result.rounds.expect(2 * rounds * len(SIZES) + 2)
    for width, height, bitrate in SIZES:
        ages: dict[str, list[float]] = {OURS: [], "aiortc": []}
        for i in range(rounds):
            for system, found in ages.items():
                what = f"{width}x{height}, round {i + 1} of {rounds}"
                found += _measured(result, system, what, (width, height, bitrate, count)) or []
        for system, found in ages.items():
            case = f"{width}x{height}"
            marks = {"glass_p50": quantile(found, 0.5), "glass_p95": quantile(found, 0.95)} if found else {}
            result.add(case, system, len(found), "ms", **marks)
            result.add(case, system, rounds * count, "pictures", lost=rounds * (count - WARM_UP) - len(found))
    width, height, bitrate = SIZES[0]
    for system in (OURS, "aiortc"):
        ages_ms = _measured(result, system, "slow consumer", (width, height, bitrate, count), SLOW_S)
        if ages_ms is None:
            continue
        marks = {"age_p50": quantile(ages_ms, 0.5), "age_p99": quantile(ages_ms, 0.99)} if ages_ms else {}
        result.add("slow consumer", system, len(ages_ms), "ms", **marks)


def _measured(
    result: Result, system: str, what: str, sent: tuple[int, int, int, int], slow_s: float = 0.0
) -> list[float] | None:
    """The ages, ms, of one round; None of a peer that is left out."""

    def measure() -> list[float]:
        return asyncio.run(_run(system, *sent, slow_s=slow_s))

    return result.rounds.ours(what, measure) if system == OURS else result.rounds.peer(system, what, measure)


async def _run(system: str, width: int, height: int, bitrate: int, count: int, slow_s: float = 0.0) -> list[float]:
    clock, scene = SystemClock(), Scene(width, height)
    given: dict[int, int] = {}
    ages: dict[int, float] = {}

    def seen(pixels: NDArray[np.uint8]) -> None:
        number = number_in(pixels)
        if number in given:
            ages.setdefault(number, (clock.now_ns() - given[number]) / 1e6)

    with mock.patch("aioice.ice.get_host_addresses", return_value=["127.0.0.1"]):
        sender, receiver = RTCPeerConnection(), RTCPeerConnection()
        try:
            async with asyncio.TaskGroup() as group:
                sending: _Ours | _Plain
                if system == OURS:
                    sending = _Ours(sender, receiver, seen, bitrate, clock, group, slow_s)
                else:
                    sending = _Plain(sender, receiver, seen, bitrate, group, slow_s)
                await sender.setLocalDescription(await sender.createOffer())
                await receiver.setRemoteDescription(sender.localDescription)
                sending.listen()
                await receiver.setLocalDescription(await receiver.createAnswer())
                await sender.setRemoteDescription(receiver.localDescription)
                while sender.connectionState != "connected":  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                start_ns = clock.now_ns()
                for number in range(count):
                    picture = scene.picture(number)
                    await asyncio.sleep(max(0.0, (start_ns - clock.now_ns()) / 1e9 + number / FPS))
                    given[number] = clock.now_ns()
                    await sending.give(picture, given[number])
                await asyncio.sleep(0.5)
                sending.end()
        finally:
            await sender.close()
            await receiver.close()
    return [age for number, age in ages.items() if number >= WARM_UP]


class _Ours:
    """Our encoder, packets to aiortc, the marker bit at the other end."""

    def __init__(
        self,
        sender: Any,
        receiver: Any,
        seen: Any,
        bitrate: int,
        clock: SystemClock,
        group: asyncio.TaskGroup,
        slow_s: float,
    ) -> None:
        self._group, self._slow_s = group, slow_s
        self._call = Call()
        self._sender, self._receiver, self._seen, self._clock = sender, receiver, seen, clock
        self._coder = Coder("h264", bitrate_bps=bitrate, rate=FPS)
        self._track = PictureTrack()
        self._thread = ThreadPoolExecutor(1)
        self._in: VideoIn | None = None
        self._task: asyncio.Task[None] | None = None
        transceiver = sender.addTransceiver(self._track, direction="sendonly")
        _only_h264(transceiver)
        codec = next(c for c in RTCRtpSender.getCapabilities("video").codecs if c.mimeType == "video/H264")
        packer = Packer(transceiver.sender, codec, clock)
        packer.on_key_wanted = self._coder.request_key

    def listen(self) -> None:
        receiver = self._receiver.getTransceivers()[0].receiver
        self._in = VideoIn(receiver, "video/H264", self._clock, self._came)
        if self._slow_s:
            self._task = self._group.create_task(self._look())

    def _came(self, time_ns: int, frame: VideoFrame) -> None:
        if self._slow_s:
            self._call.saw(time_ns, frame)
        else:
            self._seen(frame.pixels)

    async def _look(self) -> None:
        """A consumer of the pipeline's camera that takes its time."""
        async for _, frame in self._call.video():
            self._seen(frame.pixels)
            await asyncio.sleep(self._slow_s)

    async def give(self, pixels: NDArray[np.uint8], time_ns: int) -> None:
        loop = asyncio.get_running_loop()
        for unit in await loop.run_in_executor(self._thread, self._coder.encode, pixels, "rgb24", time_ns, ()):
            height, width = pixels.shape[:2]
            video = EncodedVideo(data=unit.data, codec="h264", width=width, height=height, key=unit.key)
            self._track.show(time_ns, video)

    def end(self) -> None:
        self._thread.shutdown()
        if self._task is not None:
            self._task.cancel()
        if self._in is not None:
            self._in.close()


class _Plain:
    """aiortc as it comes: frames in, frames out."""

    def __init__(
        self, sender: Any, receiver: Any, seen: Any, bitrate: int, group: asyncio.TaskGroup, slow_s: float
    ) -> None:
        self._slow_s = slow_s
        self._receiver, self._seen, self._group = receiver, seen, group
        self._track = _Frames()
        transceiver = sender.addTransceiver(self._track, direction="sendonly")
        _only_h264(transceiver)
        self._task: asyncio.Task[None] | None = None

    def listen(self) -> None:
        self._task = self._group.create_task(self._look(self._receiver.getTransceivers()[0].receiver.track))

    async def give(self, pixels: NDArray[np.uint8], time_ns: int) -> None:
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame.pts, frame.time_base = time_ns * 90_000 // 1_000_000_000, Fraction(1, 90_000)
        self._track.frames.put_nowait(frame)

    def end(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _look(self, track: MediaStreamTrack) -> None:
        while True:
            frame: Any = await track.recv()
            self._seen(frame.to_ndarray(format="rgb24"))
            await asyncio.sleep(self._slow_s)


class _Frames(VideoStreamTrack):
    def __init__(self) -> None:
        super().__init__()
        self.frames: asyncio.Queue[Any] = asyncio.Queue()

    async def recv(self) -> Any:
        return await self.frames.get()


def _only_h264(transceiver: Any) -> None:
    codecs = RTCRtpSender.getCapabilities("video").codecs
    transceiver.setCodecPreferences([c for c in codecs if c.mimeType == "video/H264"])
