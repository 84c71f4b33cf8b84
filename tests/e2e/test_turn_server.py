"""Through a TURN server (coturn), where client and server cannot reach each other by themselves."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require, require_lab
from tests.e2e.server import PARROT, serve
from tests.netlab import Lab, Link, lab

USER, PASSWORD = "thalweg", "s3cret"


@pytest.fixture
def net() -> Iterator[Lab]:
    require_lab()
    require(shutil.which("turnserver"), "apt-get install coturn")
    with lab("server", "client", "relay") as found:
        yield found


@pytest.fixture
def turn(net: Lab, tmp_path: Path) -> str:
    """A TURN server on the host `relay`; gives it as `--ice` takes it."""
    address = net.relay.address
    listening = ["--listening-ip", address, "--relay-ip", address, "--listening-port", "3478", "--no-tls", "--no-dtls"]
    users = ["--lt-cred-mech", "--user", f"{USER}:{PASSWORD}", "--realm", "thalweg.test", "--no-cli"]
    files = ["--log-file", "stdout", "--pidfile", str(tmp_path / "turn.pid"), "--userdb", str(tmp_path / "turn.db")]
    command = ["turnserver", "-n", *listening, *users, *files]
    net.relay.popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(1.5)
    return f"turn:{USER}:{PASSWORD}@{address}:3478"


def doctor(net: Lab, url: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "thalweg.deploy", "doctor", "webrtc", url, *options]
    return net.client.run(command, check=False, timeout=90)


def test_the_doctor_finds_that_only_the_relay_leads_there(net: Lab, turn: str, tmp_path: Path) -> None:
    file = tmp_path / "parrot.yaml"
    file.write_text(PARROT)
    with serve(net, file, tmp_path / "serve.log", "--ice", turn) as server:
        well = doctor(net, server.url)
        assert "conversation through TURN: connected" in well.stdout, well.stdout + well.stderr
        wrong = doctor(net, server.url, "--ice", turn.replace(PASSWORD, "guess"))
        assert "credentials that it does not accept" in wrong.stdout, wrong.stdout
        assert wrong.returncode == 1


def test_the_doctor_says_when_nobody_answers(net: Lab) -> None:
    found = doctor(net, f"http://{net.server.address}:9/")
    assert found.returncode == 1
    assert "does not answer" in found.stdout


def test_the_doctor_says_when_udp_does_not_get_through(net: Lab, tmp_path: Path) -> None:
    file = tmp_path / "parrot.yaml"
    file.write_text(PARROT)
    with serve(net, file, tmp_path / "serve.log") as server:
        well = doctor(net, server.url)
        assert "conversation: connected" in well.stdout, well.stdout + well.stderr
        net.change(Link(loss=1.0))
        cut = doctor(net, server.url)
    assert cut.returncode == 1
    assert "does not answer" in cut.stdout
