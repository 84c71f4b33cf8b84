"""A packet that exists is valid."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from thalweg.pipeline.errors import PayloadError
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import AudioChunk, Sentence, Token, Transcript

VALID: dict[str, Any] = {"stream": "a.out", "seq": 0, "time": 0, "payload": Token(text="x")}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stream", 3),
        ("seq", "x"),
        ("seq", -1),
        ("seq", True),
        ("time", "soon"),
        ("time", 1.5e9),
        ("time", float("nan")),
        ("time", None),
        ("time", 2**63),
        ("time", -(2**63) - 1),
        ("epoch", None),
        ("epoch", -1),
        ("epoch", 1.0),
        ("deadline", 1e9),
        ("deadline", 2**64),
        ("trace", b"00"),
        ("replay", -1),
        ("replay", "1"),
        ("payload", "no payload"),
        ("payload", None),
        ("payload", Token),
    ],
)
def test_a_packet_of_other_things_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(PayloadError, match=field if field != "payload" else "a packet carries a"):
        Packet(**{**VALID, field: value})


@pytest.mark.parametrize("field", ["seq", "time", "epoch", "deadline", "replay"])
def test_whole_numbers_of_numpy_become_plain_ones(field: str) -> None:
    packet = Packet(**{**VALID, field: np.int64(7)})
    assert type(getattr(packet, field)) is int and getattr(packet, field) == 7


@pytest.mark.parametrize("time", [-(2**63), 2**63 - 1, -5])
def test_every_time_of_64_bits_is_one(time: int) -> None:
    assert Packet(**{**VALID, "time": time}).time == time


@pytest.mark.parametrize("rate", [16_000.0, "16000", None, True])
def test_a_rate_that_would_make_times_that_are_no_whole_numbers_is_refused(rate: Any) -> None:
    with pytest.raises(PayloadError, match="positive whole number"):
        AudioChunk(samples=np.zeros(1, np.float32), rate=rate)


@pytest.mark.parametrize("kind", [Token, Sentence])
def test_a_text_that_is_none_is_refused_where_it_is_built(kind: Any) -> None:
    with pytest.raises(PayloadError, match="expected str"):
        kind(text=None)
    with pytest.raises(PayloadError, match="expected str"):
        Transcript(text=b"hi", final=True)  # type: ignore[arg-type]
