"""Events and controls on the wire."""

from __future__ import annotations

import json

import pytest

from thalweg.pipeline.dialogue.events import (
    Caption,
    ControlError,
    Echo,
    Say,
    Stop,
    decode_control,
)


def test_an_event_is_one_json_object_with_version_and_type() -> None:
    caption = Caption(turn=3, text="wörds", stable=2, final=False)
    assert json.loads(caption.encode()) == {
        "v": 1, "type": "caption", "turn": 3, "text": "wörds", "stable": 2, "final": False,
    }  # fmt: skip


def test_controls_are_read_and_what_is_not_known_in_them_is_ignored() -> None:
    assert decode_control('{"v": 1, "type": "stop", "new": 1}') == Stop()
    assert decode_control(b'{"v": 1, "type": "echo", "cancelled": false}') == Echo(cancelled=False)
    assert decode_control('{"v": 1, "type": "say", "text": "hello"}') == Say(text="hello")


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
        ("x" * 4097, "4097 bytes"),
    ],
)
def test_what_is_no_control_is_refused_with_what_is_wrong_with_it(message: str, why: str) -> None:
    with pytest.raises(ControlError, match=why):
        decode_control(message)
