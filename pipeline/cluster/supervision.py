"""Decides after the loss of a worker whether and when it is restarted, and without which packet.

Theory of operation. One `Supervisor` supervises one worker. It takes events with their time and returns what to do; it
starts and kills no process itself.

    state     event                                          next       answer
    STARTING  started                                        UP
    STARTING  died, allowed                                  WAITING    Restart
    UP        answered                                       UP         progress makes the tries count from 0 again
    UP        overdue: no answer for `heartbeat_ns`          UP         True: kill it; that it died is then said too
    UP        died, allowed                                  WAITING    Restart
    UP        finished                                       ENDED
    UP        asked to restart                               UP         the next death is restarted, and not counted
    STARTING, asked to restart                               same       nothing: it is being started anyway
    WAITING
    WAITING   starting                                       STARTING
    any       died, not allowed, or too often in `window_ns` ENDED      GiveUp

"Allowed" depends on the policy: NEVER allows no restart; ON_FAILURE any unless the process exited with code 0; ALWAYS
any. The first restart in a window is immediate, each further one after twice the previous pause.

A worker that dies repeatedly without progress is probably killed by its input. From the last but one of `poison_tries`
tries on it is watched: it reports each packet before it processes it. If it then dies with a packet in hand, that
packet is set aside: the next incarnation skips it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

_LONGEST_PAUSE_NS = 30_000_000_000
SET_ASIDE = 1000
"""Most packets set aside that are remembered; older ones were passed long ago."""


class RestartWhen(Enum):
    """After which kinds of death a worker is restarted."""

    NEVER = "never"
    ON_FAILURE = "on_failure"
    ALWAYS = "always"


class Delivery(Enum):
    """What happens to packets in flight on an edge when its consumer's worker is lost and restarted.

    NEWEST: they are lost, and the gap is reported. AT_LEAST_ONCE: the sender keeps them until the consumer's worker has
    processed them, and sends them again; duplicates are dropped.
    """

    NEWEST = "newest"
    AT_LEAST_ONCE = "at_least_once"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """`restarts`: most deaths within `window_ns` after which it is still restarted. `backoff_ns`: the pause before the
    second restart in a window. `heartbeat_ns`: a worker silent for this long counts as dead. `poison_tries`: after how
    many deaths without progress the packet in hand is set aside.
    """

    when: RestartWhen = RestartWhen.NEVER
    restarts: int = 5
    window_ns: int = 60_000_000_000
    backoff_ns: int = 500_000_000
    heartbeat_ns: int = 10_000_000_000
    poison_tries: int = 3

    @property
    def may_return(self) -> bool:
        """Whether the policy allows any automatic restart."""
        return self.when is not RestartWhen.NEVER


class SupervisionState(Enum):
    """See the table above."""

    STARTING = "starting"
    UP = "up"
    WAITING = "waiting"
    ENDED = "ended"


TRANSITIONS: Mapping[SupervisionState, frozenset[SupervisionState]] = {
    SupervisionState.STARTING: frozenset({SupervisionState.UP, SupervisionState.WAITING, SupervisionState.ENDED}),
    SupervisionState.UP: frozenset({SupervisionState.WAITING, SupervisionState.ENDED}),
    SupervisionState.WAITING: frozenset({SupervisionState.STARTING, SupervisionState.ENDED}),
    SupervisionState.ENDED: frozenset(),
}
"""The table above as data: state → possible next states, without itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InHand:
    """The packet a worker had in hand. `number` identifies it among those of `stream` across restarts."""

    stage: str
    stream: str
    number: int
    seq: int
    epoch: int
    time_ns: int
    payload: str

    @property
    def key(self) -> tuple[str, str, int]:
        """An identity that is equal when the packet is sent again."""
        return self.stage, self.stream, self.number


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """Restart it at `at_ns`. `attempt`: its number in the window. `set_aside`: all packets that it must skip, the
    newest last; `poison`: the one found just now.
    """

    at_ns: int
    attempt: int
    watched: bool
    set_aside: tuple[InHand, ...]
    poison: InHand | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """Leave it dead. `reason` is for people."""

    reason: str


class Supervisor:
    """The decisions about one worker; see the table above."""

    def __init__(self, policy: RestartPolicy) -> None:
        self.policy = policy
        self.state = SupervisionState.STARTING
        self.restarts = 0
        self._deaths: deque[int] = deque()
        self._tries = 0
        self._progress = False
        self._heard_ns = 0
        self._asked = False
        self._set_aside: deque[InHand] = deque(maxlen=SET_ASIDE)

    @property
    def ended(self) -> bool:
        """Whether it will not be restarted: its streams have ended, or it was given up."""
        return self.state is SupervisionState.ENDED

    @property
    def up(self) -> bool:
        """Whether it runs, as far as is known."""
        return self.state is SupervisionState.UP

    @property
    def watched(self) -> bool:
        """Whether the current incarnation reports each packet before it processes it."""
        return self._tries >= max(1, self.policy.poison_tries - 1)

    def started(self, now_ns: int) -> None:
        """It runs."""
        self.state = SupervisionState.UP
        self._asked = False
        self._progress = False
        self._heard_ns = now_ns

    def answered(self, now_ns: int, *, progress: bool) -> None:
        """It answered. `progress`: it has finished packets that will not be sent again."""
        self._heard_ns = now_ns
        self._progress = self._progress or progress

    def overdue(self, now_ns: int) -> bool:
        """Whether it has been silent for too long."""
        return self.state is SupervisionState.UP and now_ns - self._heard_ns > self.policy.heartbeat_ns

    def ask_restart(self) -> bool:
        """A restart is requested, independent of the policy. Returns whether the worker must be killed for it.

        A worker that is just being started need not be killed.
        """
        self._asked = self.state is SupervisionState.UP
        return self._asked

    def finished(self) -> None:
        """Its streams have ended."""
        self.state = SupervisionState.ENDED

    def starting(self) -> None:
        """It is being started again."""
        self.state = SupervisionState.STARTING
        self.restarts += 1

    def died(self, now_ns: int, *, cleanly: bool = False, in_hand: InHand | None = None) -> Restart | GiveUp:
        """It died or could not be started. `cleanly`: its process exited with code 0."""
        if self._asked:
            self._asked = False
            return self._restart(now_ns, 0, None)
        if self.policy.when is RestartWhen.NEVER or (cleanly and self.policy.when is RestartWhen.ON_FAILURE):
            self.state = SupervisionState.ENDED
            return GiveUp(reason="its policy is `restart: " + self.policy.when.value + "`")
        watched = self.watched
        self._tries = 1 if self._progress else self._tries + 1
        self._deaths.append(now_ns)
        while self._deaths[0] < now_ns - self.policy.window_ns:
            self._deaths.popleft()
        poison = in_hand if watched and self._tries >= self.policy.poison_tries else None
        if poison is not None:
            self._set_aside.append(poison)
            self._tries = 0
        elif len(self._deaths) > self.policy.restarts:
            self.state = SupervisionState.ENDED
            return GiveUp(
                reason=f"it died {len(self._deaths)} times within {self.policy.window_ns / 1e9:g} s, "
                f"more often than `restarts: {self.policy.restarts}` allows"
            )
        return self._restart(now_ns, len(self._deaths), poison)

    def _restart(self, now_ns: int, attempt: int, poison: InHand | None) -> Restart:
        self.state = SupervisionState.WAITING
        pause_ns = 0
        if attempt > 1 and poison is None:
            pause_ns = min(self.policy.backoff_ns << min(attempt - 2, 16), _LONGEST_PAUSE_NS)
        return Restart(
            at_ns=now_ns + pause_ns,
            attempt=attempt,
            watched=self.watched,
            set_aside=tuple(self._set_aside),
            poison=poison,
        )
