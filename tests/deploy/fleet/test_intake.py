"""What the agent takes of stages, and what it refuses, over its socket."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from thalweg.deploy.fleet.node.intake import LARGEST, Intake
from thalweg.pipeline.fleet.agent_socket import COMMANDS, NODE, RATE
from thalweg.stages.fleet.agent_link import AgentLink
from thalweg.transports.fleet.spool import Spool


def handed_over(tmp_path: Path, *messages: tuple[str, str, bytes]) -> tuple[list[str], Spool]:
    """What is answered to messages of a kind, a stream and a payload, and the spool then."""
    spool = Spool(tmp_path / "spool", 1, 1 << 20)
    said: list[Any] = []

    async def case() -> list[str]:
        intake = Intake(spool, lambda: None, said.append, command, lambda: 5)
        await intake.start(tmp_path / "agent")
        link = AgentLink()
        try:
            return [await link.hand_over(kind, stream, 0, payload, 0.0) for kind, stream, payload in messages]
        finally:
            link.close()
            await intake.close()

    return asyncio.run(case()), spool


async def command(within_s: float, stream: str) -> str:
    """What the agent has to be done."""
    return '{"action": "hold"}'


@pytest.fixture(autouse=True)
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NODE, str(tmp_path / "agent"))


def test_a_message_that_is_too_large_is_refused_and_the_next_one_is_taken(tmp_path: Path) -> None:
    answers, spool = handed_over(tmp_path, ("events", "s", bytes(2 * LARGEST)), ("events", "s", b"x"))
    assert answers == ["a message of 16.8 MB: at most 8.4 MB are taken", ""]
    assert spool.backlog()["events"]["records"] == 1


def test_who_asks_for_a_command_or_the_rate_is_told_and_nothing_is_stored(tmp_path: Path) -> None:
    answers, spool = handed_over(tmp_path, ("", COMMANDS, b""), ("", RATE, b""))
    assert answers == ['{"action": "hold"}', "5"] and spool.backlog()["events"]["records"] == 0


@pytest.mark.parametrize(
    ("kind", "stream", "why"),
    [
        ("news", "s", "cannot be read: ValueError"),
        ("events", "~losses", "kept for the node itself"),
        ("events", "", "0 bytes"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_the_reason(tmp_path: Path, kind: str, stream: str, why: str) -> None:
    (answer,), spool = handed_over(tmp_path, (kind, stream, b"x"))
    assert why in answer and spool.backlog()["events"]["records"] == 0
