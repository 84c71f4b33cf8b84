"""What `thalweg serve` refuses before it listens, and conversations whose stages lie in other processes."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.deploy.server.serving import PARROT, PATIENCE_S, SETTINGS, Server, run, tone
from thalweg.deploy.server.serve import ServeError, open_to_all, serve_file
from thalweg.deploy.server.session import Session
from thalweg.transports.webrtc.client import AUDIBLE, Talker

ELSEWHERE = """
name: parrot
stages:
  microphone: {use: live.microphone}
  repeat: {use: "tests.deploy.server.repeating:Repeat"}
  speaker: {use: live.speaker}
connections:
  - microphone -> repeat -> speaker
workers:
  brain: {launcher: subprocess, restart: on_failure}
placement: {repeat: brain}
"""


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ("workers:\n  ears: {launcher: subprocess}\nplacement: {speaker: ears}\n", "places speaker elsewhere"),
        ("placement: {default: subprocess}\n", "places microphone, speaker elsewhere"),
    ],
)
def test_stages_that_meet_the_person_are_not_placed_elsewhere(tmp_path: Path, more: str, found: str) -> None:
    path = tmp_path / "parrot.yaml"
    path.write_text(PARROT + more, encoding="utf-8")
    with pytest.raises(ServeError, match=found):
        serve_file(path, {}, SETTINGS)


@pytest.mark.parametrize(
    ("host", "given", "warned"),
    [
        ("0.0.0.0", {}, True),
        ("", {}, True),
        ("192.0.2.7", {}, True),
        ("chat.example.org", {}, True),
        ("0.0.0.0", {"token": "swordfish"}, False),
        ("::", {"token_file": Path("tokens")}, False),
        ("127.0.0.1", {}, False),
        ("localhost", {}, False),
        ("::1", {}, False),
    ],
)
def test_a_server_that_lets_in_everyone_beyond_this_machine_says_so(
    host: str, given: dict[str, Any], warned: bool
) -> None:
    said = open_to_all(replace(SETTINGS, host=host, **given))
    assert bool(said) == warned
    assert "swordfish" not in said and (not said or "--token-file" in said)


def test_a_stage_in_a_process_of_its_own_comes_back_where_that_is_lost_and_the_conversation_goes_on() -> None:
    async def case(server: Server) -> None:
        async with Talker(server.url) as talker, Talker(server.url):
            await hears_itself(server, talker)
            mine, other = (server.conversations.sessions[session] for session in server.conversations.sessions)
            pids = {pid_of(session) for session in (mine, other)}
            assert len(pids) == 2 and not pids & {None, os.getpid()}
            os.kill(pid_of(mine) or 0, signal.SIGKILL)
            await server.until(lambda: pid_of(mine) not in {None, *pids})
            await silence(server, talker)
            await hears_itself(server, talker)
            await server.until(lambda: mine.counts["repeated"] > 0 and other.counts["repeated"] > 0)
            assert other.problem_count == 0

    run(case, pipeline=ELSEWHERE)


def pid_of(session: Session) -> int | None:
    return getattr(session.deployment.hosts["brain"], "pid", None)


async def silence(server: Server, talker: Talker) -> None:
    """Until what was said before has been played."""
    heard = [time.monotonic()]
    talker.on_audio = lambda _, samples: heard.append(time.monotonic()) if np.abs(samples).max() > AUDIBLE else None
    await server.until(lambda: time.monotonic() - heard[-1] > 1.0)


async def hears_itself(server: Server, talker: Talker) -> None:
    heard = asyncio.Event()
    talker.on_audio = lambda _, samples: heard.set() if np.abs(samples).max() > AUDIBLE else None
    async with asyncio.timeout(PATIENCE_S):
        while not heard.is_set():
            await talker.voice.say(tone(0.5))
