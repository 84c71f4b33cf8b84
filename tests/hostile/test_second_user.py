"""Another user of the same machine, for real: they read nothing of ours, join nothing, and take nobody's place."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require
from thalweg.deploy.fleet.node.intake import Intake
from thalweg.deploy.ops.keeping.control import ControlServer
from thalweg.stages.io.private import create_private
from thalweg.transports.fleet.durable import replace_file
from thalweg.transports.link import TransportError
from thalweg.transports.shm.listener import ShmListener
from thalweg.transports.shm.sender import connect

pytestmark = pytest.mark.real

NOBODY = 65534
TRY = """
folder, name = sys.argv[1:]
def read(path):
    return open(os.path.join(folder, path)).read()
def talk(kind, address, said):
    with socket.socket(socket.AF_UNIX, kind) as sock:
        sock.settimeout(5)
        sock.connect(address)
        sock.send(said)
        return sock.recv(1000).decode()
tries = {
    "key": lambda: read("key.pem"),
    "report": lambda: read("report.json"),
    "control": lambda: talk(socket.SOCK_STREAM, folder + "/control.sock", b'{"call": "hello"}\\n'),
    "intake": lambda: talk(socket.SOCK_STREAM, folder + "/intake.sock", b"x"),
    "memory": lambda: talk(socket.SOCK_SEQPACKET, "\\0" + name, b"hello"),
}
found = {}
for what, attempt in tries.items():
    try:
        found[what] = attempt()
    except OSError as error:
        found[what] = ""
print(json.dumps(found))
"""


def as_nobody(program: str, *arguments: str) -> subprocess.Popen[str]:
    """Python as another user: it becomes that itself, for it may lie where only we may read."""
    require(os.geteuid() == 0, "a superuser, who can become somebody else")
    become = f"import json, os, socket, sys\nos.setgroups([])\nos.setgid({NOBODY})\nos.setuid({NOBODY})\n"
    command = [sys.executable, "-I", "-c", become + program, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd="/")


def test_files_and_sockets_in_a_folder_that_is_open_to_everybody_are_closed(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    for each in (folder, *folder.parents):  # as if somebody had named /tmp/mine
        if each.stat().st_uid == os.geteuid() and each != Path("/"):
            each.chmod(each.stat().st_mode | 0o055)
    folder.chmod(0o777)

    async def hello() -> str:
        return "secret"

    async def command(_: float) -> str:
        return "secret"

    async def case() -> dict[str, Any]:
        before = os.umask(0)
        try:
            replace_file(folder / "key.pem", b"secret")
            with create_private(folder / "report.json") as file:
                file.write(b"secret")
            control = ControlServer({"hello": hello})
            intake = Intake(None, lambda: None, print, command, lambda: 0)  # type: ignore[arg-type]
            await control.start(folder)
            await intake.start(folder / "intake.sock")
            name = f"thalweg-test-{os.getpid()}"
            listener = ShmListener(name, "token", lambda edge, receiver: None)
        finally:
            os.umask(before)
        said, _ = await asyncio.to_thread(as_nobody(TRY, str(folder), name).communicate)
        listener.close()
        await control.close()
        await intake.close()
        found: dict[str, Any] = json.loads(said)
        return found

    assert asyncio.run(case()) == dict.fromkeys(("key", "report", "control", "intake", "memory"), "")


LAY = """
os.symlink(sys.argv[1] + "/stolen", sys.argv[1] + "/.key.pem.part")
os.close(os.open(sys.argv[1] + "/.other.pem.part", os.O_CREAT | os.O_WRONLY, 0o666))
os.chmod(sys.argv[1] + "/.other.pem.part", 0o666)
"""


def test_what_somebody_has_laid_where_a_key_is_written_gets_nothing_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    for each in (folder, *folder.parents):
        if each.stat().st_uid == os.geteuid() and each != Path("/"):
            each.chmod(each.stat().st_mode | 0o055)
    folder.chmod(0o777)
    as_nobody(LAY, str(folder)).communicate()
    for name in ("key.pem", "other.pem"):
        replace_file(folder / name, b"secret")
        found = (folder / name).lstat()
        assert (found.st_uid, found.st_mode & 0o170777) == (os.geteuid(), 0o100600)
    assert not (folder / "stolen").exists()


LISTEN = """
sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
sock.bind("\\0" + sys.argv[1])
sock.listen()
print("listening", flush=True)
sock.settimeout(20)
print(repr(sock.accept()[0].recv(1000)), flush=True)
"""


def test_a_stranger_who_has_taken_the_name_of_a_listener_is_not_told_its_token() -> None:
    name = f"thalweg-taken-{os.getpid()}"
    stranger = as_nobody(LISTEN, name)
    assert stranger.stdout is not None
    assert stranger.stdout.readline() == "listening\n"
    with pytest.raises(TransportError, match="another user"):
        asyncio.run(connect(name, "a -> b", "the token"))
    assert stranger.communicate()[0] == "b''\n"
