"""What is made of packets that a stranger sends: pictures and sound, bounded whatever the packets say."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.conftest import require_package
from thalweg.pipeline.duration import MS

require_package("aiortc", "webrtc")

import av  # noqa: E402

from thalweg.pipeline.payload import EncodedVideo, VideoFrame  # noqa: E402
from thalweg.transports.webrtc import video  # noqa: E402
from thalweg.transports.webrtc.receive import OpusIn  # noqa: E402
from thalweg.transports.webrtc.video import PENDING, PictureTrack, VideoIn, vp8_pixels  # noqa: E402


class Receiver:
    """What of aiortc's receiver is used."""

    _RTCRtpReceiver__jitter_buffer = None

    async def _handle_rtcp_packet(self, packet: Any) -> None:
        """Nobody reports."""


class Clock:
    """So many milliseconds pass between any two looks."""

    def __init__(self, step_ms: int) -> None:
        self._now_ns = 0
        self._step_ms = step_ms

    def now_ns(self) -> int:
        self._now_ns += self._step_ms * MS
        return self._now_ns


def packet(number: int, timestamp: int, data: bytes, *, last: bool = False) -> Any:
    return SimpleNamespace(
        payload=data, _data=data, marker=int(last), sequence_number=number & 0xFFFF, timestamp=timestamp & 0xFFFFFFFF
    )


def encoded(n: int, size: int = 32) -> list[bytes]:
    """Frames of VP8, the first a key frame."""
    coder: Any = av.CodecContext.create("libvpx", "w")
    coder.width = coder.height = size
    coder.pix_fmt = "yuv420p"
    coder.time_base = Fraction(1, 30)
    coder.options = {"deadline": "realtime", "lag-in-frames": "0"}
    found = []
    for i in range(n):
        frame = av.VideoFrame.from_ndarray(np.full((size, size, 3), 10 * i, np.uint8), format="rgb24")
        frame.pts = i
        found += [bytes(one) for one in coder.encode(frame)]
    return found


async def seen(
    packets: list[Any], look: Callable[[VideoIn], None] = lambda _: None, step_ms: int = 1
) -> tuple[VideoIn, int]:
    """What comes of these packets; `look` after each. The number of pictures that were decoded."""
    pictures: list[VideoFrame] = []
    receiving = VideoIn(Receiver(), "video/vp8", Clock(step_ms), lambda _, picture: pictures.append(picture))
    for one in packets:
        receiving._packet(one)
        look(receiving)
        await drained(receiving)
    receiving.close()
    return receiving, len(pictures)


async def drained(receiving: VideoIn) -> None:
    """Until the decoder has done what it was given."""
    done = threading.Event()
    receiving._thread.submit(done.set)
    await asyncio.to_thread(done.wait, 5)
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def test_pictures_without_a_marker_bit_end_where_the_next_begins() -> None:
    packets = [packet(i, 3000 * i, data) for i, data in enumerate(encoded(4))]
    receiving, pictures = asyncio.run(seen(packets))
    assert (pictures, receiving.lost, receiving.broken) == (3, 0, 0)


def test_a_lost_last_packet_of_a_picture_costs_that_picture_and_no_other() -> None:
    packets = []
    for i, data in enumerate(encoded(8)):
        packets += [packet(2 * i, 3000 * i, data), packet(2 * i + 1, 3000 * i, b"", last=True)]
    del packets[5]
    receiving, pictures = asyncio.run(seen(packets, step_ms=100))
    assert receiving.lost == 1
    assert receiving.broken == 0 and pictures >= 6


def test_packets_without_any_end_are_kept_up_to_a_picture_of_the_largest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "LARGEST_PICTURE", 50_000)
    kept = []
    packets = [packet(i, 0, b"x" * 1000) for i in range(500)] + [packet(500 + i, 0, b"") for i in range(500)]

    async def main() -> VideoIn:
        receiving, _ = await seen(packets, lambda one: kept.append(one._size))
        return receiving

    receiving = asyncio.run(main())
    assert max(kept) <= 50_000 and kept[-1] == 0
    assert receiving.lost == 1


def test_after_a_picture_that_was_given_up_the_next_one_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "LARGEST_PICTURE", 50_000)
    endless = [packet(i, 0, b"x" * 1000, last=i == 99) for i in range(100)]
    after = [packet(100 + i, 3000 * (i + 1), data, last=True) for i, data in enumerate(encoded(3))]
    receiving, pictures = asyncio.run(seen([*endless, *after]))
    assert (pictures, receiving.lost) == (3, 1)


def test_pictures_that_cannot_be_converted_are_counted_and_do_not_stop_those_after_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = iter([True] * 12)

    def frame(**given: Any) -> VideoFrame:
        if next(made, False):
            raise RuntimeError("no picture")
        return VideoFrame(**given)

    monkeypatch.setattr(video, "VideoFrame", frame)
    packets = [packet(i, 3000 * i, data, last=True) for i, data in enumerate(encoded(15))]
    receiving, pictures = asyncio.run(seen(packets))
    assert (receiving.broken, pictures) == (12, 3)


def test_a_picture_of_a_size_that_fills_the_memory_is_not_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(video, "LARGEST_PIXELS", 32 * 32)
    huge = [packet(i, 3000 * i, data, last=True) for i, data in enumerate(encoded(1, size=64))]
    receiving, pictures = asyncio.run(seen(huge))
    assert (pictures, receiving.broken) == (0, 1)
    assert vp8_pixels(encoded(1, size=64)[0]) == 64 * 64
    assert vp8_pixels(encoded(2)[1]) == vp8_pixels(b"") == vp8_pixels(b"\0" * 20) == 0


def test_pictures_that_nobody_fetches_are_kept_up_to_a_bound_and_go_on_at_a_key_unit() -> None:
    def unit(key: bool) -> EncodedVideo:
        return EncodedVideo(data=b"x", codec="vp8", width=1, height=1, key=key)

    async def main() -> tuple[int, int, int]:
        track = PictureTrack()
        for i in range(3 * PENDING):
            track.show(i, unit(key=False))
        before = len(track._units)
        track.show(0, unit(key=True))
        track.show(1, unit(key=False))
        return before, len(track._units), track.dropped

    assert asyncio.run(main()) == (0, 2, 3 * PENDING)


def test_sound_that_was_lost_is_made_up_for_no_faster_than_time_passes() -> None:
    given: list[bool] = []
    opus = OpusIn(lambda samples, arrival_ns, lost: given.append(lost))
    for i in range(20):  # each number far ahead of the last
        opus.packet(packet(900 * i, 960 * 900 * i, b"\xf8\xff\xfe"), i * 200 * MS)
    opus.close()
    assert 40 < given.count(True) <= (19 * 200 + 1000) / 20


def test_a_gap_of_two_seconds_is_two_seconds_of_silence() -> None:
    given: list[bool] = []
    opus = OpusIn(lambda samples, arrival_ns, lost: given.append(lost))
    for i in [*range(50), *range(150, 200)]:
        opus.packet(packet(i, 960 * i, b"\xf8\xff\xfe"), i * 20 * MS)
    opus.close()
    assert (given.count(True), given.count(False)) == (100, 100)
