"""Unit tests that do what they must not fail, and say what to do."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import require_model
from tests.unit_guard import UnitTestError, is_unit, watched
from thalweg.models import ModelError, ModelStore

TESTS = Path(__file__).parent


def start_a_process() -> None:
    subprocess.run([sys.executable, "-c", ""], check=True)


async def _start_a_process() -> None:
    await asyncio.create_subprocess_exec(sys.executable, "-c", "")


def start_a_process_from_a_loop() -> None:
    asyncio.run(_start_a_process())


def connect() -> None:
    with socket.socket() as out:
        out.connect(("192.0.2.1", 9))


def look_up_a_host() -> None:
    socket.getaddrinfo("host.invalid", 80)


def _connect_quietly() -> None:
    with suppress(UnitTestError):
        connect()


def connect_in_a_thread() -> None:
    thread = threading.Thread(target=_connect_quietly)
    thread.start()
    thread.join()


def want_a_model() -> None:
    require_model("silero-vad")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (start_a_process, "starts a process"),
        (start_a_process_from_a_loop, "starts a process"),
        (connect, "reaches for the network"),
        (connect_in_a_thread, "reaches for the network"),
        (look_up_a_host, "looks for a host on the network"),
        (want_a_model, "wants a model"),
    ],
)
def test_what_a_unit_test_must_not_do_fails_it_even_if_it_is_caught(wrong: Callable[[], None], said: str) -> None:
    def caught() -> None:
        with suppress(UnitTestError):
            wrong()

    with pytest.raises(UnitTestError, match=f"{said}.*@pytest.mark.real"), watched(None):
        caught()


def test_what_takes_long_is_no_unit_test() -> None:
    with pytest.raises(UnitTestError, match="processor time"), watched(0.0):
        sum(range(10_000))


def test_loopback_and_sockets_without_a_network_are_fine() -> None:
    with watched(None), socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()
        server.accept()[0].close()


def test_no_model_is_found_and_none_is_fetched() -> None:
    with pytest.raises(ModelError):
        ModelStore().path("silero-vad")


@pytest.mark.parametrize(
    ("path", "marks", "fixtures", "unit"),
    [
        ("stages/io/test_audio.py", (), (), True),
        ("stages/io/test_audio.py", ("real",), (), False),
        ("stages/io/test_audio.py", (), ("voice_demo",), False),
        ("e2e/test_cli.py", (), (), False),
        ("deploy/server/sub/test_x.py", (), (), False),
        ("deploy/servers/test_x.py", (), (), True),
    ],
)
def test_a_unit_test_is_what_nothing_calls_real(
    path: str, marks: tuple[str, ...], fixtures: tuple[str, ...], unit: bool
) -> None:
    item: Any = SimpleNamespace(
        path=TESTS / path, get_closest_marker=lambda name: name in marks or None, fixturenames=fixtures
    )
    assert is_unit(item, TESTS) is unit
