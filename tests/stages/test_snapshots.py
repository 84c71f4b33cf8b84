"""What stages give as their snapshot can be sent elsewhere, and another instance goes on from it."""

from __future__ import annotations

import contextlib
import tracemalloc
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from thalweg.deploy.testing import packet, run_stage
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.payload import Token, Transcript, Unit
from thalweg.pipeline.signal import Skip
from thalweg.stages.language.chat import Chat
from thalweg.stages.senses.units import EncodeUnits
from thalweg.stages.speech.sentences import Sentences
from thalweg.transports.codec import CodecError
from thalweg.transports.state import pack_state, unpack_state

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def moved(stage: Any, fresh: Any) -> Any:
    """`fresh`, in the state of `stage`."""
    fresh.restore(unpack_state(pack_state(stage.snapshot())))
    return fresh


def test_a_sentence_begun_before_is_finished_after() -> None:
    first = Sentences()
    begun = run_stage(first, [packet(Token(text="It is a "), epoch=1)]).payloads()
    ended = run_stage(moved(first, Sentences()), [packet(Token(text="day.", last=True), epoch=1)]).payloads()
    assert [sentence.text for sentence in [*begun, *ended]] == ["It is a day."]


def test_a_conversation_is_remembered() -> None:
    chat = Chat(backend="echo")
    run_stage(chat, [packet(Transcript(text="who is it?", final=True), epoch=1)])
    assert moved(chat, Chat(backend="echo")).snapshot() == chat.snapshot()
    assert "who is it?" in str(chat.snapshot())


def test_an_encoder_of_units_goes_on_in_the_sample_it_was_at_with_the_size_of_its_new_place() -> None:
    first = EncodeUnits("camera", "vehicle", size="s", blocking=True)
    units = [unit(index) for index in range(3)]
    assert run_stage(first, [packet(each, epoch=4) for each in units[:2]]).payloads() == []
    later = moved(first, EncodeUnits("camera", "vehicle", size="m", blocking=True))
    found = run_stage(later, [packet(units[2], epoch=4)]).payloads()
    assert [(each.index, each.setting) for each in found] == [(0, "m"), (1, "m"), (2, "m")]


def test_what_was_skipped_before_is_skipped_after_and_a_size_for_one_sample_goes_along() -> None:
    first = EncodeUnits("camera", "vehicle", size="l")
    run_stage(first, [packet(unit(0), epoch=2)])
    first.configure({"size": "s"})
    later = moved(first, EncodeUnits("camera", "vehicle", size="l"))
    assert [each.setting for each in run_stage(later, [packet(unit(1), epoch=2)]).payloads()] == ["s"]
    first.on_signal(Skip(origin="decide", stream="camera", epoch=2), None)  # type: ignore[arg-type]
    later = moved(first, EncodeUnits("camera", "vehicle", size="l"))
    assert run_stage(later, [packet(unit(1), epoch=2)]).payloads() == []
    assert [each.setting for each in run_stage(later, [packet(unit(0), epoch=3)]).payloads()] == ["l"]


def unit(index: int) -> Unit:
    picture = np.zeros((32, 32), np.uint8)
    return Unit(values=picture, modality="camera", index=index, of=3, sensed_ns=0, ends_ns=0, last=index == 2)


@given(PLAIN)
def test_plain_trees_come_back_as_they_were(tree: Any) -> None:
    assert unpack_state(pack_state(tree)) == tree


@given(arrays.arrays(st.sampled_from([np.float32, np.int64, np.uint8, np.bool_]), arrays.array_shapes(min_side=0)))
def test_arrays_come_back_with_their_type_and_shape(array: Any) -> None:
    back = unpack_state(pack_state({"a": array}))["a"]
    assert back.dtype == array.dtype and back.shape == array.shape and np.array_equal(back, array, equal_nan=True)


@given(st.binary(max_size=100))
def test_bytes_that_are_no_state_are_refused(data: bytes) -> None:
    with contextlib.suppress(ThalwegError):
        unpack_state(data)


def test_what_has_no_form_is_refused_by_its_type() -> None:
    with pytest.raises(ThalwegError, match="a value of type object cannot be part of a state"):
        pack_state({"x": object()})


@pytest.mark.parametrize("dtype", ["O", "V5", "(9,9)f4", "f4,f4", 5, None, ["f4"]])
def test_an_array_of_anything_but_numbers_is_refused(dtype: Any) -> None:
    array = msgpack.packb([dtype, [1]]) + bytes(400)
    with pytest.raises(CodecError, match="the state holds an array of"):
        unpack_state(msgpack.packb(msgpack.ExtType(1, array)))


def test_a_state_that_claims_more_than_it_holds_is_refused_before_there_is_room_for_it() -> None:
    claims = b"".join(b"\xdd" + (900_000).to_bytes(4, "big") for _ in range(400)) + bytes(1_000_000)
    tracemalloc.start()
    with pytest.raises(CodecError, match="the state cannot be read"):
        unpack_state(claims)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50e6
