"""Commands of the hub, from the connection that waits for them to the stage that carries them out.

`commands.json` in the node's folder says what is allowed, and nothing is where it is missing: {"allow": ["hold"]}.
Where the agent is not root, the file must belong to another user and not be writable by the agent: pipelines that a hub
rolls out run as the agent's user, and must not be able to widen what a hub may do. Commands are never written down:
each is handed to the stage that waits for one, within its time, or refused; then the hub is told so, by an event of the
stream `commands`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import stat
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from thalweg.deploy.fleet.certificates import COMMAND_SALT, check_signature
from thalweg.deploy.fleet.errors import FleetError
from thalweg.models.store.bounded import read_at_most
from thalweg.pipeline.decoding import decoder
from thalweg.pipeline.fleet.actions import ACTIONS, Admission, Command, CommandError, HubClock
from thalweg.pipeline.fleet.agent_socket import COMMANDS, VIDEO
from thalweg.stages.fleet.agent_link import machine_ns

log = logging.getLogger(__name__)

FILE = "commands.json"
LARGEST = 4096
WAITING = 4
TAKERS = {COMMANDS: "mavlink.action", VIDEO: "fleet.uplink with `on_demand`"}
LISTENED_NS = 2_000_000_000
"""How long a stage may take from one command to asking for the next."""


def allowed_in(folder: Path) -> frozenset[str]:
    """The actions that this node takes. Raises FleetError on a file that cannot be read, or is not the operator's."""
    path = folder / FILE
    try:
        found = json.loads(read_at_most(path, LARGEST))["allow"]
    except FileNotFoundError:
        return frozenset()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FleetError(f'{path} cannot be read: {error}; expected {{"allow": ["hold"]}}') from None
    if not isinstance(found, list) or not set(map(str, found)) <= set(ACTIONS):
        raise FleetError(f"{path} allows {found!r}, expected some of {', '.join(ACTIONS)}")
    if os.geteuid() != 0:
        kind = path.lstat()
        if not stat.S_ISREG(kind.st_mode) or kind.st_uid == os.geteuid() or os.access(path, os.W_OK):
            raise FleetError(f"{path} can be written by what runs here: let it be root's, `chown root` and `chmod 644`")
    return frozenset(map(str, found))


@decoder(FleetError, "a command")
def opened(data: bytes, public: bytes) -> Command:
    """What the hub has sealed. Raises FleetError where it was not signed by the owner of `public`, or is none."""
    if len(data) > LARGEST:
        raise FleetError(f"a command of {len(data)} bytes: at most {LARGEST} are read")
    envelope = json.loads(data)
    body, signature = bytes.fromhex(envelope["command"]), bytes.fromhex(envelope["signature"])
    if not check_signature(public, signature, COMMAND_SALT + body):
        raise FleetError("its signature is not that of the hub this node was enrolled at")
    return Command.read(json.loads(body))


class Commands:
    """Of a node while its agent runs. `heard` and `take` are called in the uplink's threads, `wait` on the loop.

    `report`: is told what became of each, as a map.
    """

    def __init__(self, node: str, instance: str, allowed: frozenset[str], public: bytes, report: Any) -> None:
        self.allowed = allowed
        self._public = public
        self._clock = HubClock()
        self._admission = Admission(node, instance, allowed)
        self._report = report
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queues: dict[str, asyncio.Queue[tuple[Command, int]]] = {each: asyncio.Queue(WAITING) for each in TAKERS}
        self._listening: Counter[str] = Counter()
        self._listened_ns = dict.fromkeys(TAKERS, -LISTENED_NS)

    def heard(self, sent_ns: int, hub_s: float) -> None:
        """The hub has answered with its time what was sent at `sent_ns`, of `machine_ns`."""
        with self._lock:
            self._clock.heard(sent_ns, machine_ns(), hub_s)

    def take(self, data: bytes) -> None:
        """A command has come. An invalid one is reported; nothing is raised."""
        now_ns = machine_ns()
        command: Command | None = None
        try:
            command = opened(data, self._public)
            with self._lock:
                left_s = self._admission.admit(command, self._clock.latest_s(now_ns))
            stream = ACTIONS[command.action].stream
            gone = not self._listening[stream] and now_ns - self._listened_ns[stream] > LISTENED_NS
            if self._loop is None or gone:
                raise CommandError(f"no {TAKERS[stream]} runs here")
            self._loop.call_soon_threadsafe(self._put, command, now_ns + round(left_s * 1e9))
        except (FleetError, CommandError) as error:
            self._refuse(command, str(error))

    async def wait(self, within_s: float, stream: str = COMMANDS) -> str:
        """For a stage: the next command as JSON, with when it was given at the latest and until when it may be done, of
        `machine_ns`, since the stage may read it whenever; or nothing.
        """
        self._loop = asyncio.get_running_loop()
        self._listening[stream] += 1
        try:
            async with asyncio.timeout(within_s):
                while True:
                    command, until_ns = await self._queues[stream].get()
                    if machine_ns() < until_ns:
                        return json.dumps(
                            {
                                "id": command.id,
                                "action": command.action,
                                "settings": dict(command.settings),
                                "given_ns": until_ns - round((command.expires_s - command.issued_s) * 1e9),
                                "until_ns": until_ns,
                            }
                        )
                    self._refuse(command, "it expired before a stage took it")
        except TimeoutError:
            return ""
        finally:
            self._listening[stream] -= 1
            self._listened_ns[stream] = machine_ns()

    def _put(self, command: Command, until_ns: int) -> None:
        try:
            self._queues[ACTIONS[command.action].stream].put_nowait((command, until_ns))
        except asyncio.QueueFull:
            self._refuse(command, f"{WAITING} others wait already")

    def _refuse(self, command: Command | None, reason: str) -> None:
        log.warning("a command was refused: %s", reason)
        what = {} if command is None else {"id": command.id, "action": command.action}
        self._report({**what, "done": False, "reason": reason[:300]})
