"""Events and controls on the wire."""

from __future__ import annotations

import json

import pytest

from thalweg.pipeline.dialogue.events import (
    MAX_EVENT_BYTES,
    Caption,
    ControlError,
    Echo,
    Event,
    Pong,
    Say,
    Stats,
    Stop,
    decode_control,
    decode_event,
)
from thalweg.pipeline.text import printable


def test_an_event_is_one_json_object_with_version_and_type() -> None:
    caption = Caption(turn=3, text="wörds", stable=2, final=False)
    assert json.loads(caption.encode()) == {
        "v": 1, "type": "caption", "turn": 3, "text": "wörds", "stable": 2, "final": False,
    }  # fmt: skip


def test_controls_are_read_and_what_is_not_known_in_them_is_ignored() -> None:
    assert decode_control('{"v": 1, "type": "stop", "new": 1}') == Stop()
    assert decode_control(b'{"v": 1, "type": "echo", "cancelled": false}') == Echo(cancelled=False)
    assert decode_control('{"v": 1, "type": "say", "text": "hello"}') == Say(text="hello")


@pytest.mark.parametrize("letter", ["x", "é", "京", "🌊"])
def test_a_question_may_have_as_many_characters_in_every_script(letter: str) -> None:
    said = json.dumps({"v": 1, "type": "say", "text": letter * 2000}, ensure_ascii=False)
    assert decode_control(said) == Say(text=letter * 2000)
    assert decode_control(said.encode()) == Say(text=letter * 2000)


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ("", "not JSON"),
        ("[" * 3000, "not JSON"),
        ("[]", "not a JSON object"),
        ("{}", "version"),
        ('{"v": 2, "type": "stop"}', "version '2'"),
        ('{"v": 1, "type": "dance"}', "type"),
        ('{"v": 1, "type": "say", "text": ""}', "text"),
        ('{"v": 1, "type": "say"}', "text"),
        ("x" * 8193, "8193 bytes"),
    ],
)
def test_what_is_no_control_is_refused_with_what_is_wrong_with_it(message: str, why: str) -> None:
    with pytest.raises(ControlError, match=why):
        decode_control(message)


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ('{"v": true, "type": "stop"}', "version 'True'"),
        ('{"v": 1.0, "type": "stop"}', "version '1.0'"),
        ('{"v": 1, "type": "ping", "t": NaN}', "the number NaN, expected a finite one"),
        ('{"v": 1, "type": "ping", "t": 1e999}', "the number 1e999, expected a finite one"),
        ('{"v": 1, "type": "ping", "t": ' + "9" * 400 + "}", "a number of 400 digits, expected at most 20"),
        ('{"v": 1, "type": ["stop"]}', "type"),
        ('{"v": [[[1]]], "type": "stop"}', "version"),
        (b"\xff\xfe{}", "not JSON"),
        ("é" * 4097, "8194 bytes"),
        ('{"v": 1, "type": "\x1b[2J"}', "not JSON"),
        ('{"v": 1, "type": "\\u001b[2J"}', "type"),
    ],
)
def test_numbers_and_names_without_bound_are_refused_with_a_text_that_prints(message: str | bytes, why: str) -> None:
    with pytest.raises(ControlError) as caught:
        decode_control(message)
    assert why in str(caught.value) and printable(str(caught.value), None) == str(caught.value)


@pytest.mark.parametrize(
    "event", [Caption(turn=1, text="é", stable=0, final=True), Pong(t=1.5), Stats(span_ms=1, stages=[])]
)
def test_an_event_is_read_as_it_was_written(event: Event) -> None:
    assert decode_event(event.encode()) == event
    assert decode_event(event.encode().encode()) == event


def test_an_event_of_a_later_kind_is_passed_over() -> None:
    assert decode_event('{"v": 1, "type": "smell", "of": "coffee"}') is None


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ("[]", "not a JSON object"),
        ('"caption"', "not a JSON object"),
        ('{"v": 1}', "type None, expected a name"),
        ('{"v": 1, "type": {}}', "type {}, expected a name"),
        ('{"v": 1, "type": "caption", "turn": "x"}', "turn: "),
        ('{"v": 1, "type": "latency", "turn": 1, "final_ms": Infinity}', "expected a finite one"),
        (" " * (MAX_EVENT_BYTES + 1), "expected at most"),
    ],
)
def test_what_is_no_event_is_refused_with_what_is_wrong_with_it(message: str, why: str) -> None:
    with pytest.raises(ControlError) as caught:
        decode_event(message)
    assert why in str(caught.value)
