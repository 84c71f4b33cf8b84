"""`mavlink.action`: has an autopilot do what the hub says, as far as the node's own file allows that."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Annotated, Any, Final

import msgpack
from pydantic import Field

from thalweg.models.store.bounded import read_at_most
from thalweg.pipeline.fleet.actions import CommandError, Ended, Flightdeck, Send
from thalweg.pipeline.fleet.agent_socket import COMMANDS, NODE
from thalweg.pipeline.fleet.telemetry import AUTOPILOT
from thalweg.pipeline.payload import Token
from thalweg.pipeline.stage import Context
from thalweg.stages.fleet.agent_link import AgentLink
from thalweg.stages.fleet.mavlink_link import MavlinkError, MavlinkLink

STEP_S = 0.05
LARGEST = 64 << 10
US: Final = 191
"""MAV_COMP_ID_ONBOARD_COMPUTER."""
_LOITER, _RETURN, _LAND, _MOUNT, _PICTURE = 17, 20, 21, 205, 2000
_TARGETING, _ACCEPTED, _IN_PROGRESS = 2, 0, 5
_NO_AUTOPILOT = 8
_RESULTS = {1: "not now", 2: "denied", 3: "not supported", 4: "failed", 6: "cancelled"}
_EPOCH_S: Final = 1_420_070_400
"""Signatures count tens of microseconds since 2015."""


class MavlinkAction:
    """Sends commands of the hub to one autopilot, and nothing else: those that `commands.json` of the node allows.

    Whether a command is to be believed and in time the node's agent decides; here it is sent, again until the autopilot
    acknowledges it, three times in all, and its outcome is told to the hub and sent on. A pilot who changes the mode
    ends what is under way. `mavlink.key` of the node's folder, 32 bytes in hexadecimal, signs what is sent and is
    asked of what comes; without it nothing is sent, unless `commands.json` says `"mavlink": "unsigned"`. Only one
    vehicle is believed, as in `mavlink.telemetry`; give this one a link of its own.
    """

    outputs = {"outcome": Token}

    def __init__(
        self,
        link: Annotated[
            str, Field(description="`udp:HOST:PORT` to listen at, `tcp:HOST:PORT`, or `serial:/dev/ttyACM0:57600`")
        ],
        system: Annotated[int, Field(ge=0, le=255, description="system id to command; 0: the first autopilot")] = 0,
    ) -> None:
        self._link = MavlinkLink(link, answers=True)
        self._system = system
        self._deck = Flightdeck()
        self._mav: Any = None
        self._command: dict[str, Any] = {}
        self._sent = 0
        self._asking, self._telling = AgentLink(), AgentLink()
        self.counts = {"done": 0, "refused": 0, "unsigned": 0, "other_system": 0}

    def open(self, ctx: Context) -> None:
        """Raises MavlinkError where this is no node, the package is missing, or nothing could be signed."""
        if not self._asking.there:
            raise MavlinkError("mavlink.action runs on a node: there is no agent here; `thalweg node run` starts one")
        try:
            from pymavlink.dialects.v20 import common
        except ImportError:
            raise MavlinkError("mavlink.action needs pymavlink: pip install 'thalweg[edge]'") from None
        folder = Path(os.environ[NODE]).parent
        self._mav = common.MAVLink(None, srcSystem=self._system or 255, srcComponent=US)
        self._mav.robust_parsing = True
        key = _key_in(folder)
        if key is not None:
            self._mav.signing.secret_key = key
            self._mav.signing.link_id = 1
            self._mav.signing.timestamp = max(0, round((time.time() - _EPOCH_S) * 100_000))
            self._mav.signing.sign_outgoing = True

    async def run(self, ctx: Context) -> None:
        """Until the pipeline ends."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._link.listen(ctx))
                group.create_task(self._ask(ctx))
                group.create_task(self._hear(ctx))
                while True:
                    await asyncio.sleep(STEP_S)
                    await self._step(ctx)
        finally:
            self._asking.close()
            self._telling.close()

    async def _ask(self, ctx: Context) -> None:
        """For the next command, again and again."""
        while True:
            said = await self._asking.hand_over("", COMMANDS, 0, b"", 0.0)
            if not said.startswith("{"):
                if said:  # the agent is away, or takes no commands
                    await asyncio.sleep(1.0)
                continue
            command = json.loads(said)
            try:
                self._deck.take(
                    command["action"], round(command["age_s"] * 1e9), round(command["left_s"] * 1e9), ctx.now_ns()
                )
            except CommandError as error:
                await self._tell(command, Ended(False, str(error)), ctx)
            else:
                self._command = command

    async def _step(self, ctx: Context) -> None:
        match self._deck.step(ctx.now_ns()):
            case Send(confirmation=confirmation):
                self._link.write(self._packed(confirmation))
            case Ended() as ended:
                await self._tell(self._command, ended, ctx)

    def _packed(self, confirmation: int) -> bytes:
        number, parameters = message_of(self._command["action"], self._command["settings"])
        self._sent = number
        message = self._mav.command_long_encode(self._system, AUTOPILOT, number, confirmation, *parameters)
        self._mav.srcSystem = self._system
        packed = bytes(message.pack(self._mav))
        self._mav.seq = (self._mav.seq + 1) % 256
        return packed

    async def _hear(self, ctx: Context) -> None:
        while True:
            piece = await self._link.pieces.get()
            for message in self._mav.parse_buffer(piece) or ():
                kind = message.get_type()
                if kind == "BAD_DATA":
                    self.counts["unsigned"] += "signature" in str(getattr(message, "reason", "")).lower()
                elif kind in ("HEARTBEAT", "COMMAND_ACK"):
                    self._heard(kind, message, ctx.now_ns())

    def _heard(self, kind: str, message: Any, now_ns: int) -> None:
        system, component = message.get_srcSystem(), message.get_srcComponent()
        if kind == "HEARTBEAT" and component == AUTOPILOT and message.autopilot != _NO_AUTOPILOT:
            self._system = self._system or system
        if system != self._system or component != AUTOPILOT:
            self.counts["other_system"] += 1
        elif kind == "HEARTBEAT":
            self._deck.mode((int(message.base_mode) & ~128) << 32 | int(message.custom_mode), now_ns)
        elif message.command == self._sent and message.result != _IN_PROGRESS:
            result = int(message.result)
            why = "" if result == _ACCEPTED else f"the autopilot says: {_RESULTS.get(result, result)}"
            self._deck.acknowledged(result == _ACCEPTED, why)

    async def _tell(self, command: dict[str, Any], ended: Ended, ctx: Context) -> None:
        self.counts["done" if ended.done else "refused"] += 1
        outcome = {"id": command["id"], "action": command["action"], "done": ended.done, "reason": ended.reason}
        refusal = await self._telling.hand_over(
            "events", f"{ctx.name}.outcome", time.time_ns(), msgpack.packb({"payload": outcome}), 5.0
        )
        if refusal:
            ctx.report(f"{outcome}: {refusal}")
        await ctx.send(Token(text=json.dumps(outcome)), time=ctx.now_ns())


def message_of(action: str, settings: dict[str, float]) -> tuple[int, tuple[float, ...]]:
    """The number of MAV_CMD and its seven parameters."""
    pitch, yaw = settings.get("pitch", 0.0), settings.get("yaw", 0.0)
    found: dict[str, tuple[int, tuple[float, ...]]] = {
        "hold": (_LOITER, (0,) * 7),
        "return": (_RETURN, (0,) * 7),
        "land": (_LAND, (0,) * 7),
        "gimbal": (_MOUNT, (pitch, 0, yaw, 0, 0, 0, _TARGETING)),
        "photo": (_PICTURE, (0, 0, 1, 0, 0, 0, 0)),
    }
    return found[action]


def _key_in(folder: Path) -> bytes | None:
    """What messages are signed with; None where the operator says that they are not. Raises MavlinkError."""
    try:
        key = bytes.fromhex(read_at_most(folder / "mavlink.key", LARGEST).decode("ascii"))
    except FileNotFoundError:
        key = b""
    except (OSError, ValueError) as error:
        raise MavlinkError(f"{folder / 'mavlink.key'} cannot be read: {error}") from None
    if len(key) == 32:
        return key
    if key:
        raise MavlinkError(f"{folder / 'mavlink.key'} has {len(key)} bytes, expected 32 in hexadecimal")
    try:
        unsigned = json.loads(read_at_most(folder / "commands.json", LARGEST))["mavlink"] == "unsigned"
    except (OSError, ValueError, KeyError, TypeError):
        unsigned = False
    if not unsigned:
        raise MavlinkError(
            f"mavlink.action signs what it sends: put the autopilot's key into {folder / 'mavlink.key'}, or say "
            '"mavlink": "unsigned" in commands.json there'
        )
    return None
