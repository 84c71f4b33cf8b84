"""`thalweg serve` as a user starts it, on a host of its own with a network between it and whoever connects."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.netlab import Lab

PORT = 8080
PATIENCE_S = 90.0

PARROT = """
name: parrot
description: Says what it hears.
stages:
  microphone: {use: live.microphone}
  speaker: {use: live.speaker}
connections:
  - microphone -> speaker
"""
MIRROR = """
name: mirror
stages:
  microphone: {use: live.microphone}
  speaker: {use: live.speaker}
  camera: {use: live.camera}
  encoder: {use: video.encode}
  screen: {use: live.screen}
connections:
  - microphone -> speaker
  - {from: camera, to: encoder.frame, policy: latest}
  - encoder -> screen
"""
LISTENER = """
name: listener
description: Writes down what it hears.
stages:
  microphone: {use: live.microphone}
  vad: {use: speech.vad, silence: 500ms}
  recogniser: {use: speech.pocketsphinx, apart: true}
  captions: {use: live.captions}
connections:
  - microphone -> vad -> recogniser -> captions.transcript
"""
ECHO = """
name: echo
description: Says back what it is asked.
stages:
  microphone: {use: live.microphone}
  vad: {use: speech.vad, silence: 500ms, barge_in: false}
  recogniser: {use: speech.pocketsphinx, apart: true}
  turns: {use: live.turns}
  chat: {use: language.chat, backend: echo}
  sentences: {use: speech.sentences}
  voice: {use: speech.piper}
  speaker: {use: live.speaker}
  captions: {use: live.captions}
connections:
  - microphone -> vad -> recogniser -> turns.transcript
  - microphone -> turns.audio
  - vad -> turns.speech
  - turns -> chat -> sentences -> voice -> speaker
  - recogniser -> captions.transcript
  - chat -> captions.token
"""


class Server:
    """A running server on host `server` of a lab; asked from its host `client`."""

    def __init__(self, net: Lab, process: subprocess.Popen[Any]) -> None:
        self.net = net
        self.process = process
        self.url = f"http://{net.server.address}:{PORT}/"

    def get(self, path: str, *curl: str) -> tuple[int, str]:
        """Status and body of one request, by curl."""
        command = ["curl", "-s", "-m", "10", "-w", "\n%{http_code}", *curl, self.url.rstrip("/") + path]
        body, _, status = self.net.client.run(command, check=False).stdout.rpartition("\n")
        return int(status or 0), body

    def sessions(self) -> list[dict[str, Any]]:
        """What `/sessions` says."""
        found = json.loads(self.get("/sessions", "-H", "Authorization: Bearer admin")[1])["sessions"]
        assert isinstance(found, list)
        return found

    def until(self, condition: Any) -> None:
        """Wait until `condition()`."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.2)


@contextmanager
def serve(net: Lab, file: Path, log: Path, *options: str) -> Iterator[Server]:
    """Start it, wait until it is ready, stop it."""
    command = ["-m", "thalweg.deploy", "serve", file, "--host", net.server.address, "--port", str(PORT)]
    with log.open("w", encoding="utf-8") as out:
        process = net.server.python(*command, "--admin-token", "admin", *options, stderr=out)
    server = Server(net, process)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while server.get("/readyz")[0] != 200:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text(encoding="utf-8")
            time.sleep(0.2)
        yield server
    finally:
        for _ in range(2):
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                time.sleep(0.3)
        process.wait(timeout=20)
