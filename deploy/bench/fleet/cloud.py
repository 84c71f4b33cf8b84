"""A node's folder, a lender that is a process of its own, and a link between the two that can be cut one way or both.

The folders are as enrolment leaves them, under an authority of their own; no hub runs.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from copy import copy
from pathlib import Path
from typing import Final

from thalweg.deploy.bench.ports import free_port
from thalweg.deploy.fleet import certificates as certs
from thalweg.deploy.fleet.placing.lenders import LENDERS
from thalweg.transports.fleet.durable import replace_file

LENT: Final = Path(__file__).parent / "lent"
PLACE: Final = "fog"
PIECE = 1 << 16


class Cloud:
    """`node` and `lender` are folders; `port` is the lender's. End it with `end`."""

    def __init__(self, folder: Path, host: str = "127.0.0.1") -> None:
        self.node, self.lender = folder / "node", folder / "lender"
        self.host, self.port = host, free_port()
        self._log = folder / "lender.log"
        self._authority, self._key = certs.make_authority("measured")
        self._process: subprocess.Popen[bytes] | None = None
        self._serial = self._enrol("drone", self.node)
        self._enrol("fog-1", self.lender)
        self.certify("fog-1", certs.LENDER, self.lender / "lender.pem")
        self.admit({"drone": [str(self._serial)]})
        self.tell(self.port)

    def another(self, place: str, host: str) -> Cloud:
        """A lender of another place under the same authority, which the node is told of, too."""
        other = copy(self)
        other.lender, other.host, other.port = self.lender.with_name(place), host, free_port()
        other._log, other._process = self._log.with_name(f"{place}.log"), None
        name = f"{place}-1"
        other._enrol(name, other.lender)
        other.certify(name, certs.LENDER, other.lender / "lender.pem")
        other.admit({"drone": [str(self._serial)]})
        told = json.loads((self.node / LENDERS).read_bytes())
        told.append({"place": place, "name": name, "host": host, "port": other.port})
        replace_file(self.node / LENDERS, json.dumps(told).encode())
        return other

    def _enrol(self, name: str, path: Path) -> int:
        """Leave its folder as enrolment does; the number of its working certificate."""
        path.mkdir(parents=True, exist_ok=True)
        replace_file(path / "authority.pem", self._authority)
        known = {"hub": "127.0.0.1:1", "name": name, "signing": "00" * 32}
        replace_file(path / "identity.json", json.dumps(known).encode())
        return self.certify(name, certs.WORKING, path / "working.pem")

    def certify(self, name: str, kind: str, path: Path) -> int:
        """Write a certificate with its key; its serial number."""
        key = certs.make_key()
        certificate, serial = certs.issue(self._authority, self._key, certs.make_request(key), name, kind)
        replace_file(path, certificate + key)
        return serial

    def admit(self, serials: dict[str, list[str]]) -> None:
        """Let the lender know, before it starts, who may borrow."""
        self.lender.mkdir(exist_ok=True)
        replace_file(self.lender / "admitted.json", json.dumps(serials).encode())

    def tell(self, port: int) -> None:
        """Let the node know where workers are lent."""
        told = [{"place": PLACE, "name": "fog-1", "host": self.host, "port": port}]
        replace_file(self.node / LENDERS, json.dumps(told).encode())

    def start(self, through: Sequence[str] = (), more: Sequence[str] = ()) -> None:
        """Let it lend. `through`: a command that runs the one behind it; `more`: what that one is told, too."""
        command = [sys.executable, "-m", "thalweg.deploy", "node", "lend", "--folder", str(self.lender)]
        command += ["--host", self.host, "--port", str(self.port), "--files", str(LENT), *more]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([*through, *command], stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def signal(self, number: int) -> None:
        """To the lender and all that it has started."""
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    @staticmethod
    def kill(pid: int) -> None:
        """One of them."""
        os.kill(pid, signal.SIGKILL)

    def pids(self) -> list[int]:
        """The lender and, behind it, its workers."""
        assert self._process is not None
        found = [self._process.pid]
        for pid in found:
            with suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    found += map(int, (task / "children").read_text(encoding="ascii").split())
        return found

    def end(self) -> None:
        """Kill it. Idempotent."""
        if self._process is not None:
            self.signal(signal.SIGKILL)
            self._process.wait()
            self._process = None


class Cable:
    """A way to a port that holds bytes back while it is cut: `up` towards the port, `down` from it."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._open = {"up": asyncio.Event(), "down": asyncio.Event()}
        self.mend()

    def cut(self, *ways: str) -> None:
        """Both unless one is named."""
        for way in ways or self._open:
            self._open[way].clear()

    def mend(self) -> None:
        """What was held back goes on."""
        for event in self._open.values():
            event.set()

    @asynccontextmanager
    async def laid(self) -> AsyncIterator[Cable]:
        """While the block runs."""
        async with asyncio.TaskGroup() as group:
            ways: set[asyncio.Task[None]] = set()

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                try:
                    other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self._target)
                except OSError:
                    writer.transport.abort()
                    return
                ways.add(group.create_task(self._carry("up", reader, other_writer)))
                ways.add(group.create_task(self._carry("down", other_reader, writer)))

            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            self.port = int(server.sockets[0].getsockname()[1])
            try:
                yield self
            finally:
                server.close()
                for way in ways:
                    way.cancel()

    async def _carry(self, way: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError):
                while piece := await reader.read(PIECE):
                    await self._open[way].wait()
                    writer.write(piece)
                    await writer.drain()
        finally:
            writer.transport.abort()
