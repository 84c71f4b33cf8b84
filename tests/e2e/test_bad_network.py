"""Talking over a bad network: still understood, and gone on with afterwards. Synthetic speech, a relay in between."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import QUESTION, require_lab
from tests.e2e.server import LISTENER, PARROT, Server, serve
from tests.netlab import Lab, Link, lab

RIGHT = ["what", "is", "the", "capital", "of", "france", "how", "many", "days", "are", "in", "a", "week"]

# Connects, is cut off for ten seconds, and asks whether it is still the same conversation
SURVIVE = """
import asyncio, json, sys
from thalweg.transports.webrtc.client import Talker

async def main(url):
    async with Talker(url) as talker:
        print("connected", flush=True)
        await asyncio.sleep(float(sys.argv[2]))
        talker.send({"type": "ping", "t": 1})
        await talker.next("pong", timeout_s=60)
        print(sum(event["type"] == "hello" for _, event in talker.events), flush=True)

asyncio.run(main(sys.argv[1]))
"""


@pytest.fixture
def net() -> Iterator[Lab]:
    require_lab()
    with lab("server", "client", seed=3) as found:
        yield found


def listening(net: Lab, folder: Path, text: str = LISTENER) -> Path:
    file = folder / "pipeline.yaml"
    file.write_text(text)
    return file


def understood(server: Server) -> list[str]:
    """The words of the recording as they arrive on the other side."""
    talk = ("-m", "thalweg.deploy", "talk", server.url, "--in", str(QUESTION), "--json", "--wait", "10")
    done = server.net.client.run([sys.executable, *talk], check=False, timeout=120)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    print(*events, done.stderr, sep="\n")  # for whoever reads a failure
    assert any(event["type"] == "hello" for event in events), done.stderr
    return [w for e in events if e["type"] == "caption" and e["final"] for w in e["text"].split()]


def errors(found: list[str]) -> int:
    """Words wrong, missing or extra (Levenshtein)."""
    row = list(range(len(RIGHT) + 1))
    for i, word in enumerate(found, 1):
        before, row[0] = row[0], i
        for j, right in enumerate(RIGHT, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != right))
    return row[-1]


@pytest.mark.usefixtures("voice_demo")
def test_speech_is_understood_through_loss_and_jitter(net: Lab, tmp_path: Path) -> None:
    with serve(net, listening(net, tmp_path), tmp_path / "serve.log", "--sessions", "4") as server:
        clean = errors(understood(server))
        net.change(Link(loss=0.05, delay_ms=100, jitter_ms=10))
        impaired = [errors(understood(server))]
        while impaired[-1] > clean + 4 and len(impaired) < 3:  # losses may fall on words; hardly three times running
            impaired.append(errors(understood(server)))
    assert clean <= 3
    assert impaired[-1] <= clean + 4, impaired


def test_a_conversation_outlives_an_outage_of_ten_seconds(net: Lab, tmp_path: Path) -> None:
    with serve(net, listening(net, tmp_path, PARROT), tmp_path / "serve.log") as server:
        client = net.client.python("-c", SURVIVE, server.url, "12", stdout=subprocess.PIPE, text=True)
        assert client.stdout is not None
        assert client.stdout.readline() == "connected\n"
        net.change(Link(outages=((0, 10),)))
        assert client.stdout.readline() == "1\n"  # one connection all the time
