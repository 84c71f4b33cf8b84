"""A voice is cut in two where its decoder begins, and nothing else is."""

from __future__ import annotations

import pytest

from thalweg.models.speech.vits import CutError, halves


def field(number: int, value: bytes) -> bytes:
    assert len(value) < 128
    return bytes((number << 3 | 2, len(value))) + value


def node(name: str, reads: list[str], writes: list[str]) -> bytes:
    said = [field(1, one.encode()) for one in reads] + [field(2, one.encode()) for one in writes]
    return field(1, b"".join(said) + field(3, name.encode()))


def network(*nodes: bytes, constants: tuple[str, ...] = (), output: str = "sound") -> bytes:
    """A ModelProto of these nodes, its graph too long for one byte of length."""
    tensors = b"".join(field(5, field(8, name.encode())) for name in constants)
    graph = b"".join(nodes) + tensors + field(11, field(1, b"text")) + field(12, field(1, output.encode()))
    return b"\x08\x08" + bytes((7 << 3 | 2, len(graph) & 0x7F | 0x80, len(graph) >> 7)) + graph


ENCODE = node("/enc", ["text", "weights", "axes"], ["z"])
DECODE = node("/dec/conv_pre/Conv", ["z", "filter"], ["y"])
TAIL = node("/tail", ["y", "axes"], ["sound"])


def test_a_network_is_cut_where_its_decoder_begins_and_each_half_has_what_it_reads() -> None:
    cut = halves(network(ENCODE, DECODE, TAIL, constants=("weights", "axes", "filter")))
    assert cut is not None
    first, second, frames = cut
    assert frames == "z"
    assert ENCODE in first and DECODE not in first and TAIL not in first
    assert DECODE in second and TAIL in second and ENCODE not in second
    in_first = [name for name in (b"weights", b"axes", b"filter") if field(5, field(8, name)) in first]
    in_second = [name for name in (b"weights", b"axes", b"filter") if field(5, field(8, name)) in second]
    assert (in_first, in_second) == ([b"weights", b"axes"], [b"axes", b"filter"])
    assert field(11, field(1, b"text")) in first and field(12, field(1, b"sound")) in second


@pytest.mark.parametrize(
    "whole",
    [
        network(ENCODE, node("/other", ["z"], ["sound"])),
        network(ENCODE, node("/dec/conv_pre/Conv", ["z", "speaker"], ["sound"])),
        network(ENCODE, DECODE, TAIL, constants=("weights", "axes", "filter"), output="z"),
        b"",
    ],
    ids=["no decoder", "a decoder that reads more than frames", "frames that are an output", "nothing"],
)
def test_a_network_of_another_kind_is_left_whole(whole: bytes) -> None:
    assert halves(whole) is None


@pytest.mark.parametrize("wrong", [b"\x0f", b"\x3a\x7f\x01", b"\x08" + b"\xff" * 11, b"\x3a"])
def test_what_is_no_network_is_an_error(wrong: bytes) -> None:
    with pytest.raises(CutError):
        halves(wrong)
