"""`sink.speaker` on a sound card that is none: what it is asked for, and what it does when it goes."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from thalweg.deploy.errors import StartError
from thalweg.deploy.testing import packet, run_stage
from thalweg.pipeline.dialogue.playout import Finished, PlayEvent, Started
from thalweg.pipeline.payload import SpokenText
from thalweg.stages.dialogue.speaker import RATE, Speaker

BLOCK = 480


class Card:
    """As `sounddevice.OutputStream`: a thread that asks for a block of 10 ms, 20 times faster than a card would."""

    latency = 0.0
    lasts_s = 60.0
    heard: list[np.ndarray[Any, Any]]

    def __init__(self, *, samplerate: int, device: Any, callback: Callable[..., None], **options: Any) -> None:
        if device == "none":
            raise ValueError("no such device")
        assert (samplerate, options) == (RATE, {"channels": 1, "dtype": "float32"})
        self._callback = callback
        self.active = False
        Card.heard = []
        self._thread = threading.Thread(target=self._play, daemon=True)

    def start(self) -> None:
        self.active = True
        self._thread.start()

    def close(self) -> None:
        self.active = False
        self._thread.join()

    def _play(self) -> None:
        ends = time.monotonic() + self.lasts_s
        while self.active and time.monotonic() < ends:
            out = np.zeros((BLOCK, 1), np.float32)
            self._callback(out, BLOCK, None, None)
            Card.heard.append(out[:, 0])
            time.sleep(0.0005)
        self.active = False


@pytest.fixture(autouse=True)
def sounddevice(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("sounddevice")
    module.OutputStream = Card  # type: ignore[attr-defined]
    module.PortAudioError = type("PortAudioError", (Exception,), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    monkeypatch.setattr(Card, "lasts_s", 60.0)
    return module


def spoken(seconds: float, text: str, *, last: bool, rate: int = RATE) -> Any:
    samples = np.full(round(seconds * rate), 0.5, np.float32)
    return packet(SpokenText(samples=samples, rate=rate, text=text, last=last), epoch=1)


def test_all_of_it_is_played_and_what_was_heard_is_said() -> None:
    said: list[PlayEvent] = []

    class Watched(Speaker):
        def _played(self, event: PlayEvent) -> None:
            said.append(event)
            super()._played(event)

    outcome = run_stage(Watched(), [spoken(0.3, "One two.", last=False), spoken(0.2, "Three.", last=True, rate=22_050)])
    played = np.concatenate(Card.heard)
    assert outcome.problems == [] and abs(np.count_nonzero(played > 0.4) / RATE - 0.5) < 0.03
    started, finished = said
    assert isinstance(started, Started) and isinstance(finished, Finished)
    assert finished.complete and finished.text == "One two. Three."


def test_a_card_that_goes_is_said_and_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Card, "lasts_s", 0.02)
    outcome = run_stage(Speaker(), [spoken(30.0, "Long.", last=True)])
    assert "plays no more: was it unplugged?" in outcome.problems[0]


def test_without_a_card_it_is_refused_with_what_else_there_is() -> None:
    with pytest.raises(StartError, match=r"cannot play on none: no such device; `sink\.audio` writes a file instead"):
        run_stage(Speaker(device="none"), [])


def test_without_portaudio_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(StartError, match=r"pip install 'thalweg\[microphone\]'"):
        run_stage(Speaker(), [])
