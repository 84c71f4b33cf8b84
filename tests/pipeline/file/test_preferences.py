"""What a pipeline file offers to people is checked before anything starts, value by value."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from thalweg.pipeline.file.preferences import Preference, PreferenceError
from thalweg.pipeline.file.source import SpecError
from thalweg.pipeline.file.spec import Spec, load_document, load_spec, read_source

FILE: dict[str, Any] = {
    "name": "offers",
    "variables": {"fastest": 2},
    "stages": {
        "file": {"use": "audio.file", "path": "a.wav"},
        "vad": {"use": "speech.vad", "silence": "400ms"},
        "recogniser": {"use": "speech.recognise", "model": "pocketsphinx"},
        "chat": {"use": "language.chat", "backends": {"pocket": {"backend": "echo"}, "big": {"backend": "echo"}}},
        "sentences": {"use": "speech.sentences"},
        "voice": {"use": "speech.piper", "speed": 1.25, "voices": ["other"]},
        "sink": {"use": "sink.audio", "path": "b.wav"},
    },
    "connections": ["file -> vad -> recogniser -> chat.transcript", "chat.token -> sentences -> voice -> sink"],
}


def loaded(preferences: Any) -> Spec:
    return load_spec(yaml.safe_dump(FILE | {"preferences": preferences}))


def test_a_file_offers_ranges_and_values_and_says_what_they_begin_with() -> None:
    spec = loaded(
        {
            "voice.speed": {"label": "Speed", "from": 0.5, "to": "${fastest}"},
            "voice.voice": {"values": {"piper-en-us-joe": "Joe", "other": "Other"}},
            "chat.first": {"values": ["", "pocket"]},
        }
    )
    first, speed, voice = spec.preferences.values()
    assert (speed.name, speed.value, speed.low, speed.high, speed.step) == ("voice.speed", 1.25, 0.5, 2.0, 0.1)
    assert (voice.label, voice.value, voice.values["other"]) == ("voice", "piper-en-us-joe", "Other")
    assert (first.value, list(first.values)) == ("", ["", "pocket"])
    again = load_document(read_source(yaml.safe_dump(spec.document), "again.yaml"))
    assert again.preferences == spec.preferences, "as a conversation host elsewhere reads it"


WRONG: dict[str, tuple[Any, str]] = {
    "no mapping": ([], "`preferences` is a list"),
    "no stage": ({"voise.speed": {"from": 1, "to": 2}}, "there is no stage 'voise' (did you mean 'voice'?)"),
    "no parameter": ({"voice": {"from": 1, "to": 2}}, "there is no stage ''"),
    "fixed": ({"chat.system": {"values": ["You lie."]}}, "system cannot change while chat runs; what can: first"),
    "no body": ({"voice.speed": None}, "expected a mapping"),
    "nothing said": ({"voice.speed": {}}, "expected `values`, or numbers in `from` and `to`"),
    "unknown key": ({"voice.speed": {"form": 1, "to": 2}}, "unknown key 'form' (did you mean 'from'?)"),
    "upside down": ({"voice.speed": {"from": 2, "to": 1}}, "the first below the second"),
    "no numbers": ({"voice.speed": {"from": True, "to": 2}}, "numbers in `from` and `to`"),
    "endless": ({"voice.speed": {"from": 1, "to": float("inf")}}, "numbers in `from` and `to`"),
    "huge": ({"voice.speed": {"from": 1, "to": 10**400}}, "numbers in `from` and `to`"),
    "beyond the parameter": ({"voice.speed": {"from": 1, "to": 40}}, "less than or equal to 2"),
    "no step": ({"voice.speed": {"from": 1, "to": 2, "step": 0}}, "`step` is 0"),
    "no values": ({"voice.voice": {"values": []}}, "expected 1 to 64 texts"),
    "both": ({"voice.voice": {"values": ["other"], "from": 1}}, "stands in place of"),
    "norwegian": ({"recogniser.language": {"values": ["en", False]}}, "`values` has False, expected texts"),
    "not loaded": ({"voice.voice": {"values": ["third"]}}, "'third', which voice cannot become here, only piper"),
    "not in the pool": (
        {"chat.first": {"values": ["cloud"]}},
        "'cloud', which first cannot become here, only big, pocket",
    ),
    "not of this model": ({"recogniser.language": {"values": ["en", "de"]}}, "'de', which language cannot become here"),
    "too many": ({f"voice.speed{i}": {"from": 1, "to": 2} for i in range(17)}, "17 preferences, expected 16 at most"),
}


@pytest.mark.parametrize(("preferences", "said"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_offered_is_refused_with_its_reason(preferences: Any, said: str) -> None:
    with pytest.raises(SpecError, match=r"(?s).*") as refused:
        loaded(preferences)
    assert said in str(refused.value)


@pytest.mark.parametrize("value", [True, None, [], {}, "1", float("nan"), float("inf"), 10**400, 0.49, 2.01])
def test_no_number_is_taken_that_is_not_in_the_range(value: object) -> None:
    speed = Preference(stage="voice", parameter="speed", label="Speed", value=1.0, low=0.5, high=2.0)
    assert speed.taken(0.5) == 0.5 and speed.taken(2) == 2.0
    with pytest.raises(PreferenceError, match=r"Speed: expected a number from 0\.5 to 2"):
        speed.taken(value)
