"""A call whose cloud is cut off in mid-answer: heard to the end, recorded where it is heard, and transcribed there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import QUESTION, require_lab, require_model
from tests.e2e.server import ECHO, serve
from tests.netlab import Link, lab
from thalweg.models.speech.wav import write_wav
from thalweg.pipeline.decoding import shown
from thalweg.stages.io.sound import decoded

ANSWER = (
    "The capital of France is the city of Paris, which lies on a river in the north of the country. "
    "More than two million people live there. Many visitors come every year to see the old bridges and the museums. "
    "In the evening the streets are full of light."
)
BEGUN = 12
"""Pieces of the answer that the cloud has sent when its link is cut: ten words."""
CHAT = """chat:
    use: language.chat
    backends:
      cloud: {url: "http://CLOUD:8000/v1", model: large, where: cloud, quality: 0.9, continues: prefix}
      fog: {url: "http://FOG:8000/v1", model: small, where: fog, quality: 0.5, continues: prefix}
    policy: {first_clause_within: 5s, probe_every: null}
"""
PIPELINE = ECHO.replace("chat: {use: language.chat, backend: echo}\n", CHAT)
SERVE = f"""
import asyncio, sys
from thalweg.deploy.bench.language.modelserver import ModelServer

async def main():
    async with ModelServer({ANSWER!r}, token_s=1 / 26, first_s=0.3, host="0.0.0.0", port=8000) as server:
        print("ready", flush=True)
        while not server.asked:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.3 + {BEGUN} / 26)
        print("begun", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

asyncio.run(main())
"""


@pytest.mark.real
@pytest.mark.usefixtures("voice_demo")
def test_an_answer_whose_cloud_is_cut_off_is_heard_to_its_end(tmp_path: Path) -> None:
    require_lab()
    require_model("whisper-base")
    sound = np.concatenate(list(decoded(QUESTION, 16_000, 16_000)))[: round(3.3 * 16_000)]  # its first question
    write_wav(tmp_path / "question.wav", np.concatenate([sound, np.zeros(16_000, np.float32)]), 16_000)
    with lab("server", "client", "cloud", "fog", seed=4) as net:
        served = {host: served_by(net.hosts[host]) for host in ("cloud", "fog")}
        text = PIPELINE.replace("CLOUD", net.cloud.address).replace("FOG", net.fog.address)
        (tmp_path / "call.yaml").write_text(text, encoding="utf-8")
        with serve(net, tmp_path / "call.yaml", tmp_path / "serve.log") as server:
            talk = ("-m", "thalweg.deploy", "talk", server.url, "--in", str(tmp_path / "question.wav"), "--json")
            call = net.client.python(*talk, "--out", str(tmp_path / "heard.wav"), stdout=subprocess.PIPE, text=True)
            assert served["cloud"].stdout.readline() == "begun\n"
            net.change(Link(outages=((0, 3600),)), "server", "cloud")
            net.change(Link(outages=((0, 3600),)), "cloud", "server")
            assert served["fog"].stdout.readline() == "begun\n", "the fog was asked to go on"
            out, _ = call.communicate(timeout=120)
    said = "".join(event["text"] for event in map(json.loads, out.splitlines()) if event["type"] == "answer")
    assert ANSWER.split() == said.split(), shown(said)
    heard = transcribed(tmp_path / "heard.wav")
    right = words(ANSWER)
    assert heard[-3:] == right[-3:], heard
    assert len(set(right) - set(heard)) <= 3, heard
    assert abs(len(heard) - len(right)) <= 5, heard


def served_by(host: Any) -> Any:
    process = host.python("-c", SERVE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def transcribed(path: Path) -> list[str]:
    command = [sys.executable, "-m", "thalweg.deploy", "transcribe", path, "--set", "model=whisper-base", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return words(" ".join(json.loads(line)["text"] for line in done.stdout.splitlines()))


def words(text: str) -> list[str]:
    return [word.strip(".,!?").lower() for word in text.split()]
