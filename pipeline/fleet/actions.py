"""Commands to a vehicle from far away: which are believed, and which are carried out, once and in time, or never.

Theory of operation. A command is signed by the hub and says which node it is for, which start of that node's agent
(`instance`), what to do, when it was given and until when it may be done, by the hub's clock. What time it is there the
node knows from its exchanges with the hub (`HubClock`): the latest that it can be. So a command that is delayed,
repeated or meant for another node is refused, independent of the node's own clock; and a restarted agent accepts no
command that was meant for its predecessor.

    event                         answer
    a command                     refused, with the reason; or accepted, once: its id is remembered until it has ended
    its turn                      sent to the autopilot; sent again until that acknowledges it, three times in all
    the autopilot acknowledges    done, or refused by the autopilot
    the autopilot is at it        it is not sent again
    the mode changes, as asked    a command that changes it is not sent again: what comes next may be the pilot's
    the pilot changes the mode    what is under way ends; what was given before that, and mode changes for
                                  another `PILOT_NS`, are refused
    nothing is heard of it        for `SILENT_NS`: refused, since the pilot would not be heard either
    its time is over              ended; nothing is sent any more

What may be asked at all is in `ACTIONS`, and nothing else ever will be: no arming, no parameters, no raw messages.
`video` is no command to the vehicle: a `fleet.uplink` takes it, and its autopilot never hears of it.
Which of those a node takes is in a file of its own. No clock inside.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.fleet.agent_socket import COMMANDS, VIDEO

_S: Final = 1_000_000_000
LONGEST_S: Final = 30.0
AHEAD_S: Final = 5.0
"""How far before its time a command may be, by clocks that do not agree."""
RESEND_NS: Final = _S // 2
TRIES: Final = 3
PILOT_NS: Final = 10 * _S
SILENT_NS: Final = 5 * _S
SETTLE_NS: Final = 5 * _S
"""How long after a command a change of mode may be what the command asked for: the first one is, the next is the
pilot's."""
MOST_SEEN: Final = 1000
_ID: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Action:
    """`settings`: name → least and greatest. `moves`: it changes the mode of the vehicle. `stream`: by which a stage
    asks for it.
    """

    settings: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    moves: bool = False
    stream: str = COMMANDS


ACTIONS: Final[Mapping[str, Action]] = {
    "hold": Action(moves=True),
    "return": Action(moves=True),
    "land": Action(moves=True),
    "gimbal": Action({"pitch": (-90.0, 45.0), "yaw": (-180.0, 180.0)}),
    "photo": Action(),
    "video": Action({"seconds": (0.0, 600.0)}, stream=VIDEO),
}


class CommandError(ThalwegError):
    """A command that is none, or is not to be carried out: says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Valid by itself: see `read`. Times are the hub's, seconds since 1970; `settings` in degrees."""

    id: str
    node: str
    instance: str
    action: str
    settings: Mapping[str, float]
    issued_s: float
    expires_s: float

    @classmethod
    def read(cls, plain: Any) -> Command:
        """Of a map. Raises CommandError on anything else."""
        try:
            found = cls(
                id=plain["id"],
                node=plain["node"],
                instance=plain["instance"],
                action=plain["action"],
                settings={str(name): float(value) for name, value in plain["settings"].items()},
                issued_s=float(plain["issued_s"]),
                expires_s=float(plain["expires_s"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            raise CommandError("that is no command") from None
        if not all(isinstance(text, str) for text in (found.id, found.node, found.instance, found.action)):
            raise CommandError("that is no command")
        action = ACTIONS.get(found.action)
        if action is None:
            raise CommandError(f"no vehicle can be told to {found.action[:40]!r}, only {', '.join(ACTIONS)}")
        if not _ID.fullmatch(found.id):
            raise CommandError("its id is no id")
        if not (math.isfinite(found.issued_s) and 0 < found.expires_s - found.issued_s <= LONGEST_S):
            raise CommandError(f"it is valid for {found.expires_s - found.issued_s:g} s, at most {LONGEST_S:g} s are")
        if set(found.settings) - set(action.settings):
            raise CommandError(f"{found.action} takes {', '.join(action.settings) or 'no settings'}")
        for name, value in found.settings.items():
            least, most = action.settings[name]
            if not least <= value <= most:  # which NaN is not
                raise CommandError(f"{name} is {value:g}, expected {least:g} … {most:g}")
        return found

    def plain(self) -> dict[str, Any]:
        """As a map."""
        return {
            "id": self.id,
            "node": self.node,
            "instance": self.instance,
            "action": self.action,
            "settings": dict(self.settings),
            "issued_s": self.issued_s,
            "expires_s": self.expires_s,
        }


class HubClock:
    """What time it is at the hub, at the latest. From exchanges: the one that took the shortest is the one to go by,
    and an older one counts for less and less (`DRIFT`).
    """

    DRIFT: Final = 1e-3
    """By how much two clocks may differ in speed; ten times what quartz does."""

    def __init__(self) -> None:
        self._best: tuple[float, int, float] | None = None

    def heard(self, sent_ns: int, got_ns: int, hub_s: float) -> None:
        """The hub said, in an answer to what was sent at `sent_ns`, that it was `hub_s`."""
        trip_s = max(0, got_ns - sent_ns) / 1e9
        if self._best is None or trip_s <= self._doubt_s(got_ns):
            self._best = trip_s, got_ns, hub_s

    def latest_s(self, now_ns: int) -> float | None:
        """None where nothing was ever heard."""
        if self._best is None:
            return None
        trip_s, at_ns, hub_s = self._best
        return hub_s + trip_s + (now_ns - at_ns) / 1e9 * (1 + self.DRIFT)

    def _doubt_s(self, now_ns: int) -> float:
        assert self._best is not None
        return self._best[0] + (now_ns - self._best[1]) / 1e9 * self.DRIFT


class Admission:
    """Which commands a node accepts. `allowed`: of `ACTIONS`, by the node's own file."""

    def __init__(self, node: str, instance: str, allowed: Collection[str]) -> None:
        self._node, self._instance, self._allowed = node, instance, allowed
        self._seen: deque[str] = deque(maxlen=MOST_SEEN)

    def admit(self, command: Command, latest_s: float | None) -> float:
        """Seconds that are left of it. Raises CommandError with the reason where it is refused. `latest_s`: what time
        it is at the hub, at the latest.
        """
        if command.node != self._node:
            raise CommandError("it is for another node")
        if command.instance != self._instance:
            raise CommandError("it is for an agent that was started before or elsewhere")
        if command.id in self._seen:
            raise CommandError("it was here before")
        self._seen.append(command.id)
        if command.action not in self._allowed:
            raise CommandError(f"{command.action} is not allowed by this node's own file")
        if latest_s is None:
            raise CommandError("what time it is at the hub is not known yet")
        if command.issued_s > latest_s + AHEAD_S:
            raise CommandError("it is of a time that has not come yet")
        if latest_s >= command.expires_s:
            raise CommandError(f"its time was over {latest_s - command.expires_s:.1f} s ago")
        return command.expires_s - latest_s


@dataclass(frozen=True, slots=True)
class Send:
    """Send it to the autopilot. `confirmation`: how often it was sent before."""

    confirmation: int


@dataclass(frozen=True, slots=True)
class Ended:
    """It is over. `done`: the autopilot has accepted it."""

    done: bool
    reason: str


class Flightdeck:
    """One command at a time, and the pilot above it."""

    def __init__(self) -> None:
        self._mode: int | None = None
        self._heard_ns = 0
        self._pilot_ns: int | None = None
        self._moved_ns: int | None = None
        self._action: Action | None = None
        self._until_ns = 0
        self._next_ns = 0
        self._sent = 0
        self._again = True
        self._ended: Ended | None = None

    @property
    def busy(self) -> bool:
        """Whether a command is under way."""
        return self._action is not None

    def take(self, action: str, age_ns: int, left_ns: int, now_ns: int) -> None:
        """A command that was accepted `age_ns` after it was given. Raises CommandError where it is refused."""
        if self.busy:
            raise CommandError("another command is under way")
        if self._mode is None:
            raise CommandError("no autopilot has been heard")
        if now_ns - self._heard_ns > SILENT_NS:
            raise CommandError(f"the autopilot was last heard {(now_ns - self._heard_ns) / 1e9:.1f} s ago")
        pilot_ns = self._pilot_ns
        if pilot_ns is not None and now_ns - age_ns <= pilot_ns:
            raise CommandError("the pilot has changed the mode since it was given")
        found = ACTIONS[action]
        if found.moves and pilot_ns is not None and now_ns - pilot_ns < PILOT_NS:
            raise CommandError(f"the pilot changed the mode {(now_ns - pilot_ns) / 1e9:.1f} s ago")
        self._action, self._ended = found, None
        self._until_ns, self._next_ns, self._sent, self._again = now_ns + left_ns, now_ns, 0, True

    def step(self, now_ns: int) -> Send | Ended | None:
        """What to do now."""
        if self._action is None:
            return None
        if self._ended is None and now_ns >= self._until_ns:
            self._ended = Ended(False, "its time was over before the autopilot acknowledged it")
        if self._ended is None and now_ns >= self._next_ns and not self._again:
            self._ended = Ended(False, "the mode has changed since, and the autopilot did not acknowledge it")
        if self._ended is None and now_ns >= self._next_ns and self._sent >= TRIES:
            self._ended = Ended(False, f"the autopilot did not acknowledge it, {TRIES} times")
        if self._ended is not None:
            ended, self._ended, self._action = self._ended, None, None
            return ended
        if now_ns < self._next_ns:
            return None
        self._next_ns = now_ns + RESEND_NS
        self._sent += 1
        if self._action.moves:
            self._moved_ns = now_ns
        return Send(self._sent - 1)

    def acknowledged(self, accepted: bool, why: str) -> None:
        """The autopilot has answered the command under way."""
        if self._action is not None and self._sent and self._ended is None:
            self._ended = Ended(accepted, why)

    def progresses(self) -> None:
        """The autopilot is at it, and has not done yet."""
        if self._action is not None and self._sent:
            self._next_ns = self._until_ns

    def mode(self, mode: int, now_ns: int) -> None:
        """The autopilot says in which mode it is."""
        before, self._mode, self._heard_ns = self._mode, mode, now_ns
        if before is None or mode == before:
            return
        if self._moved_ns is not None and now_ns - self._moved_ns <= SETTLE_NS:
            self._moved_ns = None  # what we asked for; a further change is the pilot's
            if self._action is not None and self._action.moves:
                self._again, self._next_ns = False, max(self._next_ns, now_ns + RESEND_NS)
            return
        self._pilot_ns = now_ns
        if self._action is not None and self._ended is None:
            self._ended = Ended(False, "the pilot has changed the mode")
