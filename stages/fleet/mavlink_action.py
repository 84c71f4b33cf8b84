"""`mavlink.action`: has an autopilot do what the hub says, as far as the node's own file allows that."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Annotated, Any, Final

import msgpack
from pydantic import Field

from thalweg.models.store.bounded import read_at_most
from thalweg.pipeline.fleet.actions import CommandError, Ended, Flightdeck, Send
from thalweg.pipeline.fleet.agent_socket import COMMANDS
from thalweg.pipeline.fleet.telemetry import AUTOPILOT
from thalweg.pipeline.payload import Token
from thalweg.pipeline.stage import Context
from thalweg.stages.fleet.agent_link import AgentLink, machine_ns, node_folder
from thalweg.stages.fleet.mavlink_link import MavlinkError, MavlinkLink

STEP_S = 0.05
LARGEST = 64 << 10
US: Final = 191
"""MAV_COMP_ID_ONBOARD_COMPUTER."""
_LOITER, _RETURN, _LAND, _MOUNT, _PICTURE = 17, 20, 21, 205, 2000
_TARGETING, _ACCEPTED, _IN_PROGRESS = 2, 0, 5
_NO_AUTOPILOT = 8
_RESULTS = {1: "not now", 2: "denied", 3: "not supported", 4: "failed", 6: "cancelled"}
_MOST_PHOTOS: Final = 1 << 23
"""Parameters are 32-bit floats, which are exact for whole numbers up to twice that."""
_EPOCH_S: Final = 1_420_070_400
YEAR_S = 365 * 86_400
"""Signatures count tens of microseconds since 2015."""


class MavlinkAction:
    """Sends commands of the hub to one autopilot, and nothing else: those that `commands.json` of the node allows.

    Whether a command is to be believed and in time the node's agent decides; here it is sent, again until the autopilot
    acknowledges it, three times in all, and its outcome is told to the hub and sent on. A pilot who changes the mode
    ends what is under way. `mavlink.key` of the node's folder, 32 bytes in hexadecimal, signs what is sent and is
    asked of what comes; without it nothing is sent, unless `commands.json` says `"mavlink": "unsigned"`. Only one
    vehicle is believed, as in `mavlink.telemetry`; give this one a link of its own. Over UDP commands go to where its
    last heartbeat came from.
    """

    outputs = {"outcome": Token}
    single = True  # the agent gives a command to the first caller

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
        self._sent = self._photo = 0
        self._asking, self._telling = AgentLink(), AgentLink()
        self.counts = {"done": 0, "refused": 0, "unsigned": 0, "other_system": 0}

    def open(self, ctx: Context) -> None:
        """Raises MavlinkError where this is no node, the package is missing, or nothing could be signed."""
        folder = node_folder()
        if folder is None:
            raise MavlinkError("mavlink.action runs on a node: there is no agent here; `thalweg node run` starts one")
        try:
            from pymavlink.dialects.v20 import common
        except ImportError:
            raise MavlinkError("mavlink.action needs pymavlink: pip install 'thalweg[edge]'") from None
        self._mav = common.MAVLink(None, srcSystem=self._system or 255, srcComponent=US)
        self._mav.robust_parsing = True
        key = _key_in(folder)
        if key is not None:
            self._mav.signing.secret_key = key
            self._mav.signing.link_id = 1
            self._mav.signing.timestamp = signing_time(time.time(), _floor_in(folder))
            self._mav.signing.sign_outgoing = True
            _verify_first(self._mav)

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
                now_ns = machine_ns()
                self._deck.take(command["action"], now_ns - command["given_ns"], command["until_ns"] - now_ns, now_ns)
            except CommandError as error:
                await self._tell(command, Ended(False, str(error)), ctx)
            else:
                self._command = command
                self._photo = max(self._photo + 1, int(time.time()) % _MOST_PHOTOS)

    async def _step(self, ctx: Context) -> None:
        match self._deck.step(machine_ns()):
            case Send(confirmation=confirmation):
                self._link.write(self._packed(confirmation))
            case Ended() as ended:
                await self._tell(self._command, ended, ctx)

    def _packed(self, confirmation: int) -> bytes:
        number, parameters = message_of(self._command["action"], self._command["settings"], self._photo)
        self._sent = number
        message = self._mav.command_long_encode(self._system, AUTOPILOT, number, confirmation, *parameters)
        self._mav.srcSystem = self._system
        packed = bytes(message.pack(self._mav))
        self._mav.seq = (self._mav.seq + 1) % 256
        return packed

    async def _hear(self, ctx: Context) -> None:
        while True:
            piece, peer = await self._link.pieces.get()
            for message in self._mav.parse_buffer(piece) or ():
                kind = message.get_type()
                if kind == "BAD_DATA":
                    self.counts["unsigned"] += "signature" in str(getattr(message, "reason", "")).lower()
                elif kind in ("HEARTBEAT", "COMMAND_ACK"):
                    self._heard(kind, message, machine_ns(), peer)

    def _heard(self, kind: str, message: Any, now_ns: int, peer: Any) -> None:
        system, component = message.get_srcSystem(), message.get_srcComponent()
        if kind == "HEARTBEAT" and component == AUTOPILOT and message.autopilot != _NO_AUTOPILOT:
            self._system = self._system or system
        if system != self._system or component != AUTOPILOT:
            self.counts["other_system"] += 1
        elif kind == "HEARTBEAT":
            self._link.answer(peer)
            self._deck.mode((int(message.base_mode) & ~128) << 32 | int(message.custom_mode), now_ns)
        elif message.command != self._sent or not _for_us(message, self._system):
            return
        elif message.result == _IN_PROGRESS:
            self._deck.progresses()
        else:
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


def message_of(action: str, settings: dict[str, float], photo: int) -> tuple[int, tuple[float, ...]]:
    """The number of MAV_CMD and its seven parameters. `photo`: another one for another photo, the same where it is sent
    again, so that a camera takes one.
    """
    pitch, yaw = settings.get("pitch", 0.0), settings.get("yaw", 0.0)
    found: dict[str, tuple[int, tuple[float, ...]]] = {
        "hold": (_LOITER, (0,) * 7),
        "return": (_RETURN, (0,) * 7),
        "land": (_LAND, (0,) * 7),
        "gimbal": (_MOUNT, (pitch, 0, yaw, 0, 0, 0, _TARGETING)),
        "photo": (_PICTURE, (0, 0, 1, photo, 0, 0, 0)),
    }
    return found[action]


def _for_us(message: Any, system: int) -> bool:
    """Whether an acknowledgement is broadcast or for us: a ground station may command the same autopilot."""
    return message.target_system in (0, system) and message.target_component in (0, US)


def _verify_first(mav: Any) -> None:
    """Let a message count for the order of those to come where its signature is right, and only there: pymavlink notes
    its time before it looks at that, so that one forged message from the future would have us deaf to the autopilot;
    and older ones (2.4.41) note the first message's alone, so that later messages could be replayed to us.
    """
    check, times = mav.check_signature, mav.signing.stream_timestamps

    def verified(message: bytearray, system: int, component: int) -> bool:
        stream = message[-13], system, component
        before = times.get(stream)
        if check(message, system, component):
            times[stream] = int.from_bytes(message[-12:-6], "little")
            return True
        if before is None:
            times.pop(stream, None)
        else:
            times[stream] = before
        return False

    mav.check_signature = verified


def signing_time(clock_s: float, floor_s: float) -> int:
    """What MAVLink's signatures count from, 10 µs since 2015: the clock's time, unless that is before what is known to
    be past, or a year after. An autopilot takes nothing older than what it has seen: a clock that was ten years ahead
    once would end all commands.
    """
    wrong = floor_s and not floor_s <= clock_s <= floor_s + YEAR_S
    return max(0, round(((floor_s if wrong else clock_s) - _EPOCH_S) * 100_000))


def _floor_in(folder: Path) -> float:
    """The latest time that this node knows to be past, where its clock does not."""
    try:
        return float(read_at_most(folder / "floor", LARGEST))
    except (OSError, ValueError):
        return 0.0


def _key_in(folder: Path) -> bytes | None:
    """What messages are signed with; None where the operator says that they are not. Raises MavlinkError."""
    try:
        if (folder / "mavlink.key").stat().st_mode & 0o007:
            raise MavlinkError(f"{folder / 'mavlink.key'} can be read by everybody: `chmod 600` it, and change the key")
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
