"""Hosts as processes of this machine, where it has nothing left to start one with, or no place for a socket."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.server.hosts.housing import HOUSED, bundle_of
from thalweg.deploy.server.hosts.front import Front
from thalweg.deploy.server.hosts.record import HostError
from thalweg.deploy.server.hosts.subprocesses import SubprocessHosts, hosts_folder


def test_a_machine_that_has_no_process_left_to_give_is_asked_again_and_the_front_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = 0

    async def nothing_left(*arguments: Any, **options: Any) -> None:
        nonlocal asked
        asked += 1
        raise OSError(errno.EAGAIN, "no process is left")

    monkeypatch.setattr("asyncio.create_subprocess_exec", nothing_left)
    monkeypatch.setattr("thalweg.deploy.server.hosts.subprocesses.LOOK_S", 0.01)
    spec: Any = None

    async def main() -> None:
        hosts = SubprocessHosts(Front(spec, HOUSED, "p"), bundle_of(""), HOUSED, 1, tmp_path)
        running = asyncio.create_task(hosts.run())
        async with asyncio.timeout(20.0):
            while asked < 2 and not running.done():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert not running.done(), running.exception()
        running.cancel()
        await asyncio.wait([running])

    asyncio.run(main())
    assert "no process is left" in caplog.text


def test_a_folder_that_is_too_long_for_sockets_is_refused_before_anything_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / ("x" * 90)))
    with pytest.raises(HostError, match="shorter folder in XDG_STATE_HOME"):
        hosts_folder("talk", 8080)
    assert not list(tmp_path.iterdir())
