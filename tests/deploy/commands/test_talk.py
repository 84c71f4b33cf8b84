"""`thalweg talk` refuses what it could not say or write before it calls anybody."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from tests.conftest import require_package
from tests.stages.io.recordings import encoded, tone, wav
from thalweg.deploy.commands.talk import _talk, question_of, talk_to
from thalweg.stages.io.media import MediaError
from thalweg.stages.io.whole import SinkError
from thalweg.transports.webrtc.client import Talker, TalkError

NOBODY = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def needs_webrtc() -> None:
    require_package("aiortc", "webrtc")


def question(folder: Path) -> Path:
    (folder / "question.wav").write_bytes(wav(tone(1.0)))
    return folder / "question.wav"


def test_an_answer_that_could_not_be_written_is_refused_before_the_conversation(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"cannot write .*missing/a\.wav: No such file or directory"):
        talk_to(NOBODY, question(tmp_path), tmp_path / "missing" / "a.wav", "", 1.0, False)
    with pytest.raises(SinkError, match="it is a folder or a device"):
        talk_to(NOBODY, question(tmp_path), tmp_path, "", 1.0, False)


def test_a_conversation_that_does_not_come_about_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(TalkError):
        talk_to(NOBODY, question(tmp_path), tmp_path / "a.wav", "", 1.0, False)
    assert [path.name for path in tmp_path.iterdir()] == ["question.wav"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (wav(tone(1.0))[:44], "holds no audio samples"),
        (wav(tone(0.001)), "holds 1 ms of sound, too little to be read"),
        (wav(tone(0.05)), "holds 50 ms of sound, in which nothing can be said"),
        (wav(tone(2.0))[:30_000], "is cut short"),
        (b"#!/bin/bash\necho hello\n", "it is text"),
    ],
)
def test_a_question_that_is_no_speech_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "question.wav").write_bytes(content)
    with pytest.raises(MediaError, match=message):
        talk_to(NOBODY, tmp_path / "question.wav", None, "", 1.0, False)


def test_a_question_of_half_an_hour_is_refused(tmp_path: Path) -> None:
    (tmp_path / "question.wav").write_bytes(wav(np.zeros(8_000 * 1_800, np.float32), 8_000))
    with pytest.raises(MediaError, match="is longer than 10 minutes"):
        question_of(tmp_path / "question.wav")


def test_a_question_in_two_parts_of_different_rates_is_said_whole(tmp_path: Path) -> None:
    parts = [encoded(tmp_path / "a.mp3", "libmp3lame", tone(1.0, rate), rate) for rate in (44_100, 48_000)]
    (tmp_path / "a.mp3").write_bytes(b"".join(parts))
    assert len(question_of(tmp_path / "a.mp3")) == pytest.approx(96_000, abs=9_000)


class Nonsense(Talker):
    """Connected to a server whose every event is something else."""

    async def __aenter__(self) -> Self:
        self.voice = self  # type: ignore[assignment]  # says at once
        for message in ("[1,2]", "{{{", b"\xff\xfe", '{"v":1,"type":"heard"}', '{"v":1,"type":"state","state":[]}'):
            self._message(message, self._channel)
        return self

    async def say(self, samples: Any) -> None:
        """All of it has been said."""

    async def end(self) -> None:
        """There is nothing to hang up."""


class Dying(Nonsense):
    """Connected to a server that is lost, and not found again, while the question is said."""

    async def say(self, samples: Any) -> None:
        self._leave()
        await asyncio.Event().wait()


def test_a_question_that_is_never_said_to_its_end_is_not_waited_for() -> None:
    async def case() -> int:
        async with asyncio.timeout(10.0):
            return await _talk(lambda: Dying("http://localhost:1"), np.zeros(10, np.float32), None, 60.0, False)

    with pytest.raises(TalkError, match="the connection was lost"):
        asyncio.run(case())


def test_a_server_that_sends_no_events_is_waited_for_as_long_as_was_said_and_no_longer() -> None:
    began_s = time.monotonic()
    assert asyncio.run(_talk(lambda: Nonsense("http://localhost:1"), np.zeros(10, np.float32), None, 0.2, False)) == 1
    assert time.monotonic() - began_s < 10.0
