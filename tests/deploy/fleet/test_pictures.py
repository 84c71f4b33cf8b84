"""Pictures are found among what nodes send, and whatever a record holds is read in bounded memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import require_package
from thalweg.deploy.fleet.hub.export import plain
from thalweg.deploy.fleet.hub.pictures import picture_in
from thalweg.deploy.fleet.hub.records import NodeRecords
from thalweg.deploy.fleet.hub.unpacking import unpacked
from thalweg.pipeline.fleet.spool_policy import SpoolClass
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import EncodedVideo, Payload, VideoFrame
from thalweg.stages.fleet.plain import packet_plain
from thalweg.transports.fleet.segment import Stored, pack

PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)


def sent(payload: Payload) -> bytes:
    return msgpack.packb(packet_plain(Packet(stream="camera.frame", seq=0, time=0, payload=payload)))


def media(payload: bytes, number: int, time_ns: int = 0) -> bytes:
    return pack(
        Stored(kind=SpoolClass.MEDIA, boot=1, stream="camera.frame", number=number, time_ns=time_ns, payload=payload)
    )


def test_frames_and_key_units_are_pictures_and_nothing_else_is() -> None:
    frame = picture_in(sent(VideoFrame(pixels=PIXELS)))
    assert frame is not None and (frame.format, frame.width, frame.height) == ("rgb24", 3, 2)
    assert frame.data == PIXELS.tobytes()
    for key, found in ((True, "h264"), (False, None)):
        unit = picture_in(sent(EncodedVideo(data=b"\0\0\1", codec="h264", width=64, height=48, key=key)))
        assert (unit.format if unit else None) == found


@pytest.mark.parametrize(
    "payload",
    [
        {"layout": "rgb24", "pixels": {"dtype": "uint8", "shape": [2, 3, 3], "data": b"short"}},
        {"layout": "rgb24", "pixels": {"dtype": "uint8", "shape": [-2, -3, 3], "data": bytes(18)}},
        {"layout": "yuv420p", "pixels": {"dtype": "uint8", "shape": [2, 3, 3], "data": bytes(18)}},
        {"key": True, "codec": "h264", "width": 10**9, "height": 1, "data": b"x"},
        {"key": True, "codec": "gif", "width": 1, "height": 1, "data": b"x"},
    ],
)
def test_what_only_looks_like_a_picture_is_none(payload: dict[str, Any]) -> None:
    assert picture_in(msgpack.packb({"payload": payload})) is None


@given(st.binary(max_size=300))
def test_garbage_is_no_picture(payload: bytes) -> None:
    assert picture_in(payload) is None


def test_the_newest_picture_of_a_stream_is_there_also_after_a_start(tmp_path: Path) -> None:
    require_package("cryptography", "hub")
    records = NodeRecords(tmp_path / "records")
    for number, shade in enumerate((1, 2)):
        frame = VideoFrame(pixels=np.full((2, 2), shade, np.uint8), layout="gray")
        records.receive(media(sent(frame), number, time_ns=number))
    records.receive(media(sent(EncodedVideo(data=b"x", codec="h264", width=2, height=2, key=False)), 2, 3))
    records.close()
    for found in (records, NodeRecords(tmp_path / "records")):
        picture = found.picture("camera.frame")
        assert picture is not None and (picture[0].data, picture[1]) == (bytes([2] * 4), 1)
        assert found.picture("other") is None


def test_the_newest_picture_is_that_of_the_highest_number_whatever_the_clock_of_the_node_said(tmp_path: Path) -> None:
    records = NodeRecords(tmp_path)
    for number, time_ns in ((3, 5), (4, 400_000_000_000_000_000), (5, 6), (2, 7)):
        frame = VideoFrame(pixels=np.full((2, 2), number, np.uint8), layout="gray")
        records.receive(media(sent(frame), number, time_ns=time_ns))
    picture = records.picture("camera.frame")
    assert picture is not None and (picture[0].data, picture[1]) == (bytes([5] * 4), 6)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_what_was_packed_is_read_as_it_was(value: Any) -> None:
    assert unpacked(msgpack.packb(value)) == value


@pytest.mark.parametrize(
    "payload", [b"\xdd\x00\x40\x00\x00" + b"\x90" * (4 << 20), b"\x91" * 5000, b"\xde\xff\xff" + b"\x01\x90" * 65535]
)
def test_a_hostile_record_is_exported_as_its_bytes_in_bounded_memory(payload: bytes) -> None:
    stored = Stored(kind=SpoolClass.EVENTS, boot=1, stream="s", number=0, time_ns=0, payload=payload)
    tracemalloc.start()
    told = plain(stored)["told"]
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert set(told) == {"base64"} and most < 8 * len(payload) + (16 << 20)
