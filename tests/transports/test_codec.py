"""The codec: what goes in comes out, what is not a packet is refused, and nothing else ever happens."""

from __future__ import annotations

import contextlib
import struct
from dataclasses import dataclass
from typing import Annotated, TypeVar

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from typing_extensions import TypeAliasType

from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import (
    AudioChunk,
    Decision,
    EncodedVideo,
    Features,
    Numbered,
    Payload,
    Sentence,
    Speech,
    SpeechEvent,
    Token,
    Transcript,
    Unit,
    VideoFrame,
    Word,
)
from thalweg.pipeline.signal import Failure
from thalweg.transports.codec import (
    VERSION,
    CodecError,
    decode,
    decode_signal,
    encode,
    encode_signal,
    size_of,
    type_name,
)

TEXT = st.text(max_size=40)
INTS = st.integers(-(2**63), 2**63 - 1)
AUDIO = st.builds(
    lambda n, channels, rate: AudioChunk(
        samples=np.arange(n * channels, dtype=np.float32).reshape((n, channels) if channels > 1 else (n,)), rate=rate
    ),
    st.integers(0, 500), st.integers(1, 3), st.integers(1, 96_000),
)  # fmt: skip
PAYLOADS = st.one_of(
    AUDIO,
    st.builds(Token, text=TEXT, last=st.booleans()),
    st.builds(Sentence, text=TEXT),
    st.builds(Numbered, index=INTS, item=INTS, payload=st.none() | AUDIO | st.builds(Token, text=TEXT), stream=TEXT),
    st.builds(
        EncodedVideo,
        data=st.binary(min_size=1, max_size=50),
        codec=TEXT,
        width=st.integers(1, 9),
        height=st.integers(1, 9),
        key=st.booleans(),
    ),
    st.builds(
        Transcript,
        text=TEXT,
        final=st.booleans(),
        words=st.lists(st.builds(Word, text=TEXT, start_ns=INTS, end_ns=INTS, confidence=st.floats(0, 1))).map(tuple),
    ),
    st.builds(lambda a: Speech(audio=a, event=SpeechEvent.CONTINUE), AUDIO),
    st.builds(lambda a, t: Speech(audio=a, event=SpeechEvent.END, speech_end_ns=t), AUDIO, INTS),
    st.builds(
        lambda n, index, last, t: Unit(
            values=np.arange(n, dtype=np.float32), modality="audio", index=index, of=index, sensed_ns=t, last=last
        ),
        st.integers(1, 99),
        st.integers(0, 99),
        st.booleans(),
        INTS,
    ),
    st.builds(
        lambda n, index, setting, t: Features(
            vector=np.arange(n, dtype=np.float32), modality="v", index=index, of=0, sensed_ns=t, setting=setting
        ),
        st.integers(1, 99),
        st.integers(0, 99),
        TEXT,
        INTS,
    ),
    st.builds(
        lambda n, used, missing, latency: Decision(
            name="w",
            label=n - 1,
            confidence=0.5,
            scores=np.ones(n, np.float32),
            used=used,
            reason="complete",
            missing=tuple(missing),
            latency_ns=latency,
        ),
        st.integers(1, 9),
        st.dictionaries(TEXT, st.integers(0, 99), max_size=3),
        st.lists(TEXT),
        st.none() | INTS,
    ),
    st.builds(lambda h, w: VideoFrame(pixels=np.ones((h, w, 3), np.uint8)), st.integers(1, 9), st.integers(1, 9)),
)
PACKETS = st.builds(
    Packet,
    stream=TEXT,
    seq=st.integers(0, 2**63 - 1),
    time=INTS,
    payload=PAYLOADS,
    epoch=st.integers(0, 2**40),
    deadline=st.none() | INTS,
    trace=st.none() | TEXT,
)


@given(PACKETS)
def test_a_packet_survives_the_way_there_and_back(packet: Packet) -> None:
    record = b"".join(encode(packet))
    there = decode(record)
    assert len(record) == size_of(encode(packet))
    assert b"".join(encode(there)) == record
    assert type(there.payload) is type(packet.payload)
    assert (there.stream, there.seq, there.time, there.epoch, there.deadline, there.trace) == (
        packet.stream, packet.seq, packet.time, packet.epoch, packet.deadline, packet.trace,
    )  # fmt: skip


def test_decoded_arrays_are_read_only_views_of_the_record() -> None:
    record = bytearray(b"".join(encode(make(VideoFrame(pixels=np.zeros((4, 4, 3), np.uint8))))))
    frame = decode(record).payload
    assert isinstance(frame, VideoFrame)
    record[-1] = 9
    assert frame.pixels[-1, -1, -1] == 9
    with pytest.raises(ValueError, match="read-only"):
        frame.pixels[0] = 1


def make(payload: Payload) -> Packet:
    return Packet(stream="a.b", seq=1, time=2, payload=payload)


@dataclass(frozen=True, slots=True, kw_only=True)
class Position(Payload):
    """A payload of somebody else's."""

    metres: tuple[float, float, float]
    source: str | None = None


def test_payloads_of_other_packages_travel_by_module_and_name() -> None:
    packet = make(Position(metres=(1.0, 2.5, -3.0)))
    assert type_name(Position).endswith("test_codec:Position")
    assert decode(b"".join(encode(packet))) == packet


@pytest.mark.parametrize("name", ["Payload2", "os:system", "thalweg.pipeline.packet:Packet", "builtins:int", ""])
def test_a_type_that_is_no_known_payload_is_refused_by_name(name: str) -> None:
    import msgpack

    head = msgpack.packb(["s", 1, 2, 0, None, None, None, name, []])
    record = bytes([0x74, VERSION, 0, 0, 0, 0, 0, 0]) + len(head).to_bytes(8, "little") + head
    with pytest.raises(CodecError, match="is not known here"):
        decode(record)


@dataclass(frozen=True, slots=True, kw_only=True)
class Array(Payload):
    """Any array."""

    values: np.ndarray


Number = TypeVar("Number", bound=np.generic)
Other = TypeVar("Other")
Samples = TypeAliasType("Samples", NDArray[Number], type_params=(Number,))
Pair = TypeAliasType("Pair", tuple[Other, Number], type_params=(Number, Other))
Name = TypeAliasType("Name", Annotated[str | None, "of a place"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Named(Payload):
    """A payload whose annotations are names for others, as numpy's own NDArray is from 2.5 on."""

    samples: Samples[np.float32]
    counted: Annotated[NDArray[np.uint8], "one for each sample"]
    pair: Pair[int, str]
    place: Name = None


def test_fields_whose_types_are_aliases_cross_as_what_they_stand_for() -> None:
    sent = Named(samples=np.ones(3, np.float32), counted=np.arange(3, dtype=np.uint8), pair=("a", 1), place="here")

    received = decode(b"".join(encode(make(sent)))).payload

    assert isinstance(received, Named)
    assert received.samples.tolist() == [1, 1, 1] and received.counted.tolist() == [0, 1, 2]
    assert (received.pair, received.place) == (("a", 1), "here")


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", "?"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (2, 3, 4)])
def test_an_array_of_any_type_and_shape_survives(dtype: str, shape: tuple[int, ...]) -> None:
    values = np.arange(np.prod(shape, dtype=int)).astype(dtype).reshape(shape)
    there = decode(b"".join(encode(make(Array(values=values))))).payload.values
    assert there.dtype == values.dtype and np.array_equal(there, values) and there.shape == shape


def test_an_array_that_is_not_contiguous_is_written_as_what_it_shows() -> None:
    values = np.arange(24).reshape(4, 6)[::2, ::-3]
    assert np.array_equal(decode(b"".join(encode(make(Array(values=values))))).payload.values, values)


@pytest.mark.parametrize("shape", [[2], [10**15, 0], [4, 10**18]])
def test_an_array_that_claims_another_size_is_refused(shape: list[int]) -> None:
    import msgpack

    name = type_name(Array)
    head = msgpack.packb(["s", 1, 2, 0, None, None, None, name, [["u1", shape, 0]]])
    start = (
        bytes([0x74, VERSION, 0, 0, 1, 0, 0, 0]) + len(head).to_bytes(8, "little") + (16).to_bytes(8, "little") + head
    )
    with pytest.raises(CodecError, match=r"bytes lies in 16 bytes|buffer is too small|cannot be read"):
        decode(start + bytes(-len(start) % 64) + bytes(16))


def test_another_version_is_refused_with_both_named() -> None:
    record = bytearray(b"".join(encode(make(Token(text="x")))))
    record[1] = 9
    with pytest.raises(CodecError, match=r"version 9, this is Thalweg's wire version 2"):
        decode(record)


def test_an_array_type_without_a_form_is_refused_when_it_is_written() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Complex(Payload):
        values: np.ndarray

    with pytest.raises(CodecError, match="array of complex128 has no form"):
        encode(make(Complex(values=np.zeros(2, np.complex128))))


@settings(max_examples=250)
@given(PACKETS, st.data())
def test_damaged_records_are_refused_or_are_packets_and_nothing_else(packet: Packet, data: st.DataObject) -> None:
    record = bytearray(b"".join(encode(packet)))
    for _ in range(data.draw(st.integers(1, 4))):
        record[data.draw(st.integers(0, len(record) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(record)))
    for damaged in (bytes(record), bytes(record[:cut])):
        with contextlib.suppress(ThalwegError):
            assert isinstance(decode(damaged), Packet)


@given(st.binary(max_size=200))
def test_garbage_is_refused(garbage: bytes) -> None:
    with pytest.raises(ThalwegError):
        decode(garbage)
    with pytest.raises(ThalwegError):
        decode(bytes([0x74, 1]) + garbage)


def test_a_record_from_before_a_payload_had_its_newest_field_is_read_with_the_default() -> None:
    said = Transcript(text="hello", final=True, stable_chars=5, language="")
    record = b"".join(encode(Packet(stream="s", seq=1, time=2, payload=said)))
    head = list(msgpack.unpackb(record[struct.calcsize("<BBHIQ") :], use_list=True))
    head[-1] = head[-1][:-1]
    older = msgpack.packb(head)
    packet = decode(struct.pack("<BBHIQ", 0x74, VERSION, 0, 0, len(older)) + older)
    assert packet.payload == said
    head[-1] = head[-1][:1]
    shorter = msgpack.packb(head)
    with pytest.raises(CodecError, match=r"a Transcript has \d fields, the record holds 1"):
        decode(struct.pack("<BBHIQ", 0x74, VERSION, 0, 0, len(shorter)) + shorter)


def test_a_failure_without_a_sentence_for_the_person_has_the_form_that_older_peers_know() -> None:
    old = msgpack.packb(["Failure", ["chat", 3, "gone"]])
    assert encode_signal(Failure(origin="chat", epoch=3, message="gone")) == old
    assert decode_signal(old) == Failure(origin="chat", epoch=3, message="gone")


def test_a_failure_with_a_sentence_for_the_person_arrives_with_it() -> None:
    failure = Failure(origin="chat", epoch=3, message="gone", public="Ask again later.")
    assert decode_signal(encode_signal(failure)) == failure
