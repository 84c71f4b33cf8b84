"""Hosts as processes of this machine, where it has nothing left to start one with, or no place for a socket."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.server.hosts.housing import HOUSED, bundle_of
from tests.deploy.server.serving import PARROT
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


@pytest.mark.real
def test_what_a_front_and_its_hosts_log_as_json_is_an_object_in_each_line(tmp_path: Path) -> None:
    (tmp_path / "parrot.yaml").write_text(PARROT, encoding="utf-8")
    arguments = ["--log", "json", "serve", "parrot.yaml", "--port", "0", "--on", "subprocess", "--hosts", "1"]
    command = [sys.executable, "-P", "-m", "thalweg.deploy", *arguments]
    with ExitStack() as stack:
        short = stack.enter_context(tempfile.TemporaryDirectory(prefix="tw"))  # its hosts' sockets lie there
        env = os.environ | {"XDG_STATE_HOME": short}
        front = stack.enter_context(subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True))
        assert front.stderr is not None
        lines = []
        for line in front.stderr:
            lines.append(json.loads(line)["message"])
            if "host-1 is up" in line:
                front.terminate()
    assert lines[0].startswith("serving parrot at http://127.0.0.1:")
    assert "conversation host host-1 is there" in lines  # which the host says
    assert not [line for line in lines if "is lost" in line], "the front has ended it"
