"""A Ray address where there is no cluster: said soon, and a signal ends the waiting."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import EXAMPLES, QUESTION, require_package


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.fixture
def unused() -> int:
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    return port


def start(address: str, folder: Path) -> subprocess.Popen[str]:
    require_package("ray", "ray")
    settings = ["--set", f"input={QUESTION}", "--set", f"output={folder / 'a.wav'}"]
    return subprocess.Popen(
        [sys.executable, "-m", "thalweg.deploy", "run", "-q", str(EXAMPLES / "voice_turn_ray.yaml"), *settings],
        env=os.environ | {"RAY_ADDRESS": address}, stderr=subprocess.PIPE, text=True, encoding="utf-8",
    )  # fmt: skip


@pytest.mark.parametrize("scheme", ["ray://", ""])
def test_nobody_at_the_address_is_said_at_once(scheme: str, unused: int, tmp_path: Path) -> None:
    with start(f"{scheme}127.0.0.1:{unused}", tmp_path) as run:
        _, said = run.communicate(timeout=50)
    assert run.returncode == 2
    assert f"there is no Ray cluster at {scheme}127.0.0.1:{unused}: Connection refused" in said


@pytest.mark.parametrize("scheme", ["ray://", ""])
def test_something_else_at_the_address_is_said_in_bounded_time(scheme: str, silent: int, tmp_path: Path) -> None:
    with start(f"{scheme}127.0.0.1:{silent}", tmp_path) as run:
        _, said = run.communicate(timeout=80)
    assert run.returncode == 2
    assert f"no Ray cluster answers at {scheme}127.0.0.1:{silent} within 15 s" in said


def test_a_signal_ends_the_waiting_for_a_cluster(silent: int, tmp_path: Path) -> None:
    with start(f"ray://127.0.0.1:{silent}", tmp_path) as run:
        time.sleep(8)
        run.send_signal(signal.SIGTERM)
        began_s = time.monotonic()
        _, said = run.communicate(timeout=30)
    assert time.monotonic() - began_s < 7  # Ray alone: 90 s
    assert run.returncode == 130
    assert "Traceback" not in said
