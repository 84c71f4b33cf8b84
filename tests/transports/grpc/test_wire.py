"""Record frames put together by hand are what protobuf would read and write."""

from __future__ import annotations

import contextlib

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from thalweg.transports.grpc.wire import Frame, Record, from_bytes, record_frame

NUMBERS = st.integers(0, 2**64 - 1) | st.integers(0, 200)


@given(NUMBERS, st.binary(max_size=400))
def test_protobuf_reads_a_record_frame(number: int, data: bytes) -> None:
    frame = Frame.FromString(record_frame(number, [data], len(data)))
    assert frame.WhichOneof("kind") == "record"
    assert (frame.record.number, frame.record.data) == (number, data)


@given(NUMBERS, st.binary(max_size=400))
def test_a_record_comes_back_whoever_wrote_the_frame(number: int, data: bytes) -> None:
    by_hand = record_frame(number, [data[:7], data[7:]], len(data))
    by_protobuf = Frame(record={"number": number, "data": data}).SerializeToString()
    for message in (by_hand, by_protobuf):
        assert from_bytes(message) == Record(number, memoryview(data))


@given(NUMBERS, st.binary(max_size=400))
def test_the_data_of_a_record_begins_at_a_multiple_of_16(number: int, data: bytes) -> None:
    assert (len(record_frame(number, [data], len(data))) - len(data)) % 16 == 0


@pytest.mark.parametrize("number", [0, 127, 128, 2**40])
def test_so_it_does_around_every_size_at_which_a_length_takes_a_byte_more(number: int) -> None:
    for size in (*range(80, 150), *range(16_300, 16_420)):
        frame = record_frame(number, [bytes(size)], size)
        assert (len(frame) - size) % 16 == 0
        assert from_bytes(frame) == Record(number, memoryview(bytes(size)))


def test_other_frames_are_read_as_they_are() -> None:
    frame = Frame(hello={"version": 1, "edge": "a -> b"})
    assert from_bytes(frame.SerializeToString()) == frame


@given(st.binary(max_size=40), st.binary(max_size=40), st.integers(0, 255), st.integers(0, 60))
def test_damaged_frames_are_refused_or_are_frames(data: bytes, garbage: bytes, byte: int, at: int) -> None:
    damaged = bytearray(record_frame(5, [data], len(data)))
    damaged[at % len(damaged)] = byte
    for message in (bytes(damaged), b"\x1a" + garbage, garbage):
        with contextlib.suppress(DecodeError):
            assert isinstance(from_bytes(message), Record | Frame)
