"""A hub that signs commands, a node that takes them, and an autopilot that carries them out."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from thalweg import Pipeline
from thalweg.deploy.fleet import certificates as certs
from thalweg.deploy.fleet.certificates import COMMAND_SALT
from thalweg.deploy.fleet.node.commands import Commands
from thalweg.deploy.fleet.node.intake import Intake
from thalweg.pipeline.fleet.agent_socket import NODE
from thalweg.stages.fleet.agent_link import machine_ns

KEY = bytes(range(32))
MINUTE_NS = 60_000_000_000


class Hub:
    """What signs commands, and what a node of it has."""

    def __init__(self) -> None:
        self.key = certs.make_signing_key()
        self.public = certs.public_of(self.key)
        self.count = 0

    def command(self, *, key: bytes = b"", salt: bytes = COMMAND_SALT, **more: Any) -> bytes:
        self.count += 1
        now_s = time.time()
        plain = {
            "id": f"{self.count:032x}",
            "node": "drone-7",
            "instance": "ab",
            "action": "hold",
            "settings": {},
            "issued_s": now_s,
            "expires_s": now_s + 10,
            **more,
        }
        body = json.dumps(plain).encode()
        signature = certs.sign(key or self.key, salt + body)
        return json.dumps({"command": body.hex(), "signature": signature.hex()}).encode()


class Spool:
    """In place of the node's: keeps nothing."""

    def append(self, *_: Any) -> int:
        return 0

    def sync(self, *_: Any) -> None: ...


class Autopilot(asyncio.DatagramProtocol):
    """Counts what it is told; signs, where it has a key; says its mode ten times a second."""

    def __init__(self, port: int, *, system: int = 1, key: bytes = KEY) -> None:
        from pymavlink.dialects.v20 import common

        self._mav = common.MAVLink(None, srcSystem=system, srcComponent=1)
        self._mav.robust_parsing = True
        if key:
            self._mav.signing.secret_key = key
            self._mav.signing.sign_outgoing = True
            self._mav.signing.timestamp = round((time.time() - 1_420_070_400) * 100_000)
        self._port = port
        self.mode = 3
        self.carried_out: list[tuple[int, int]] = []
        self.answers = True
        self._transport: Any = None

    async def fly(self) -> None:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, remote_addr=("127.0.0.1", self._port))
        try:
            while True:
                self._say(self._mav.heartbeat_encode(2, 3, 128, self.mode, 4))
                await asyncio.sleep(0.1)
        finally:
            self._transport.close()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        for message in self._mav.parse_buffer(data) or ():
            if message.get_type() == "COMMAND_LONG":
                self.carried_out.append((message.command, message.confirmation))
                if self.answers:
                    self._say(self._mav.command_ack_encode(message.command, 0))

    def error_received(self, exc: Exception) -> None: ...

    def _say(self, message: Any) -> None:
        self._transport.sendto(bytes(message.pack(self._mav)))
        self._mav.seq = (self._mav.seq + 1) % 256


class Node:
    """The agent's part and a pipeline with the stage."""

    def __init__(self, commands: Commands, outcomes: list[dict[str, Any]]) -> None:
        self.commands, self.outcomes = commands, outcomes

    async def outcome(self) -> dict[str, Any]:
        """The next one."""
        before, until_s = len(self.outcomes), time.monotonic() + 10
        while len(self.outcomes) == before:
            assert time.monotonic() < until_s
            await asyncio.sleep(0.02)
        return self.outcomes[-1]


def keep_key(folder: Path, mode: int = 0o600) -> None:
    path = folder / "mavlink.key"
    path.write_text(KEY.hex(), encoding="ascii")
    path.chmod(mode)


@asynccontextmanager
async def node(
    folder: Path, hub: Hub, pilot: Autopilot | None, port: int, *, allow: tuple[str, ...] = ("hold", "photo")
) -> AsyncIterator[Node]:
    """`pilot`: ours, which signs; None: another one tells this port."""
    if pilot is not None:
        keep_key(folder)
    outcomes: list[dict[str, Any]] = []
    commands = Commands("drone-7", "ab", frozenset(allow), hub.public, outcomes.append)
    commands.heard(machine_ns(), time.time())
    intake = Intake(Spool(), lambda: None, lambda _: None, commands.wait, lambda: 0)  # type: ignore[arg-type]
    await intake.start(folder / "intake.sock")
    os.environ[NODE] = str(folder / "intake.sock")
    pipeline = Pipeline("command")
    pipeline.add("action", "mavlink.action", link=f"udp:127.0.0.1:{port}")
    pipeline.expose("action.outcome")
    try:
        async with pipeline.run() as run, asyncio.TaskGroup() as group:

            async def listen() -> None:
                async for packet in run.packets("action.outcome"):
                    outcomes.append(json.loads(packet.payload.text))  # type: ignore[attr-defined]

            tasks = [group.create_task(listen())]
            if pilot is not None:
                tasks.append(group.create_task(pilot.fly()))
            while not commands._listening:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.5 if pilot else 3.0)
            yield Node(commands, outcomes)
            for task in tasks:
                task.cancel()
    finally:
        del os.environ[NODE]
        await intake.close()
