"""Asking and telling the supervising process of a deployment: JSON lines over a unix socket, the owner's alone.

    → {"call": "stats", "args": {}}
    ← {"result": …}   or   {"error": "what could not be done, and why"}

A connection may ask any number of times; answers come in the order of the questions.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from thalweg.deploy.errors import describe_error
from thalweg.deploy.ops.keeping.deployments import KeepingError
from thalweg.pipeline.errors import ThalwegError

SOCKET = "control.sock"
ANSWER_S = 10.0
_LONGEST = 100  # an address of a unix socket has at most 108 bytes

Call = Callable[..., Awaitable[Any]]


class ControlServer:
    """Answers calls. `close` must be awaited in the end."""

    def __init__(self, calls: Mapping[str, Call]) -> None:
        self._calls = calls
        self._server: asyncio.Server | None = None

    async def start(self, folder: Path) -> None:
        """Listen in this folder, and replace a previous listener."""
        (folder / SOCKET).unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX)
        with _address(folder) as address:
            listening.bind(address)
        (folder / SOCKET).chmod(0o600)
        self._server = await asyncio.start_unix_server(self._serve, sock=listening)

    async def close(self) -> None:
        """Listen no longer. Idempotent."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):  # they hung up, or sent a line that does not end
            pass
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            asked = json.loads(line)
            call = self._calls[asked["call"]]
            return {"result": await call(**asked.get("args", {}))}
        except ThalwegError as error:
            return {"error": str(error)}
        except Exception as error:
            return {"error": f"cannot answer: {describe_error(error)}"}


class Answering(Protocol):
    """A process that has a control socket in its folder."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def path(self) -> Path:
        """Where its socket lies."""
        ...


class Control:
    """The other end: blocking, for commands. Raises KeepingError where no answer comes or it is an error."""

    def __init__(self, folder: Answering) -> None:
        self._name = folder.name
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            with _address(folder.path) as address:
                self._socket.connect(address)
        except OSError:
            self._socket.close()
            raise KeepingError(f"{folder.name} is not up: `thalweg logs {folder.name}` may say why") from None
        self._lines = self._socket.makefile("rb")

    def ask(self, call: str, *, within_s: float = ANSWER_S, **args: Any) -> Any:
        """Call, and wait for the answer."""
        self._socket.settimeout(within_s)
        try:
            self._socket.sendall(json.dumps({"call": call, "args": args}).encode() + b"\n")
            line = self._lines.readline()
        except TimeoutError:
            raise KeepingError(f"{self._name} does not answer; `thalweg down {self._name}` ends it") from None
        except OSError:
            line = b""
        if not line:
            raise KeepingError(f"{self._name} has just ended")
        answer = json.loads(line)
        if "error" in answer:
            raise KeepingError(answer["error"])
        return answer["result"]

    def close(self) -> None:
        """Hang up. Idempotent."""
        self._lines.close()
        self._socket.close()

    def __enter__(self) -> Control:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def _address(folder: Path) -> Iterator[str]:
    """The socket's address; where its path is too long for one, by way of the open folder."""
    path = str(folder / SOCKET)
    if len(os.fsencode(path)) <= _LONGEST:
        yield path
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{opened}/{SOCKET}"
    finally:
        os.close(opened)
