"""Decides when enough of a multimodal sample has been seen: the rest is skipped, and no wait is unbounded.

Theory of operation. One `SampleSkipper` follows one sample. Its events are units, answers of the gate and the time; it
returns what to do. It knows no model: its caller asks the gate.

    modality   event                                   next
    WAITING    first unit                              SENSING   sensors that have not begun
    SENSING    unit marked last                        DONE      all of it has come
    WAITING, SENSING   told to skip                    STOPPED   the sensor stops, what is under way is cancelled
    WAITING, SENSING   nothing for `patience_ns` while
                       no other is still coming        SILENT    given up

    sample     event                                   action
    open       a modality is DONE, and every other has passed a checkpoint that was not asked about
                                                       ASK: what does the gate say of deciding now?
    open       the gate says at least `threshold`      STOP the others and DECIDE `skipped`
    open       no modality is WAITING or SENSING       DECIDE `complete`, or `silent` where one was given up
    open       `limit_ns` after the first unit         STOP the others and DECIDE `limit`
    open       the inputs have ended                   DECIDE `ended`
    verifying  the gate had agreed on a sample that is to be verified: DECIDE, but nothing is stopped; when all has come
                                                       VERIFY: decide again, to compare
    closed     anything                                nothing; units are counted as late

A sample decides once. Which modality is the fast one is not configured: it is the one that is done first. The rule that
couples modalities: one that goes silent is given up only when no other is still coming, so a stall costs
nothing while there is something to wait for anyway, and at most `patience_ns` beyond that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from thalweg.pipeline.errors import ThalwegError

MS = 1_000_000


class SkipError(ThalwegError):
    """A configuration of skipping that means nothing."""


class Sense(Enum):
    """A modality's part in the sample; see the table above."""

    WAITING = "waiting"
    SENSING = "sensing"
    DONE = "done"
    STOPPED = "stopped"
    SILENT = "silent"


COMING = frozenset({Sense.WAITING, Sense.SENSING})
TRANSITIONS: Mapping[Sense, frozenset[Sense]] = {
    Sense.WAITING: frozenset({Sense.SENSING, Sense.DONE, Sense.STOPPED, Sense.SILENT}),
    Sense.SENSING: frozenset({Sense.DONE, Sense.STOPPED, Sense.SILENT}),
    Sense.DONE: frozenset(),
    Sense.STOPPED: frozenset(),
    Sense.SILENT: frozenset(),
}
"""What may become of a modality: the first table above as data; a test walks it."""


@dataclass(frozen=True, slots=True)
class AskGate:
    """Ask the gate: enough seen at `checkpoint` (a share of the slow modalities' units)? Answer with `answered`."""

    checkpoint: float


@dataclass(frozen=True, slots=True)
class Stop:
    """The rest of these modalities is not needed."""

    modalities: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Decide:
    """Decide now, from what there is."""

    reason: str


@dataclass(frozen=True, slots=True)
class Verify:
    """Everything has come after an early decision: compare."""


Action = AskGate | Stop | Decide | Verify


@dataclass(frozen=True, slots=True, kw_only=True)
class SkipPolicy:
    """`checkpoints`: shares of the slow modalities at which the gate is asked, growing; none: never skip.

    `threshold`: from here on the gate's word is taken; calibrate it, see `models.calibration`. `patience_ns`: a
    modality that gives nothing for this long is given up, in doubt half a second: longer than any hiccup of a camera,
    shorter than people's patience. `limit_ns`: no sample takes longer than this from its first unit.
    """

    modalities: tuple[str, ...]
    checkpoints: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9)
    threshold: float = 0.5
    patience_ns: int = 500 * MS
    limit_ns: int = 10_000 * MS

    def __post_init__(self) -> None:
        if not self.modalities or len(set(self.modalities)) < len(self.modalities):
            raise SkipError(f"modalities are {self.modalities}, expected at least one and none twice")
        if list(self.checkpoints) != sorted(set(self.checkpoints)) or not all(0 < c < 1 for c in self.checkpoints):
            raise SkipError(f"checkpoints are {self.checkpoints}, expected growing shares between 0 and 1")
        if self.patience_ns <= 0 or self.limit_ns <= 0:
            raise SkipError("patience and limit are lengths of time, expected more than 0")


class SampleSkipper:
    """One sample. `late`: units that came after it was decided, and wanted no more."""

    def __init__(self, policy: SkipPolicy, *, verify: bool = False) -> None:
        self.policy = policy
        self.senses = dict.fromkeys(policy.modalities, Sense.WAITING)
        self.decided = ""
        self.late = 0
        self._verify = verify
        self._progress = dict.fromkeys(policy.modalities, 0.0)
        self._heard_ns: dict[str, int] = {}
        self._first_ns: int | None = None
        self._asked = 0.0
        self._pending = False
        self._verifying = False

    @property
    def closed(self) -> bool:
        """Whether nothing more will come of this sample."""
        return bool(self.decided) and not self._verifying

    @property
    def deadline_ns(self) -> int | None:
        """When `tick` should be called at the latest if nothing comes; None before the first unit and when closed."""
        if self._first_ns is None or self.closed:
            return None
        silent_ns = max(
            (self._heard_ns.get(m, self._first_ns) + self.policy.patience_ns for m in self._coming()), default=0
        )
        return min(silent_ns, self._first_ns + self.policy.limit_ns)

    def unit(self, modality: str, progress: float, last: bool, now_ns: int) -> list[Action]:
        """A unit of `modality` came, at `progress` (0…1) of it. Raises SkipError on a modality that is not known."""
        if modality not in self.senses:
            raise SkipError(f"a unit of {modality!r} came; this sample has {', '.join(self.senses)}")
        if self.closed or self.senses[modality] is Sense.STOPPED:
            self.late += 1
            return []
        if self._first_ns is None:
            self._first_ns = now_ns
        self._heard_ns[modality] = now_ns
        self._progress[modality] = max(progress, self._progress[modality])
        self.senses[modality] = Sense.DONE if last else Sense.SENSING
        return self._next()

    def answered(self, probability: float) -> list[Action]:
        """The gate's answer to the last Ask. NaN counts as no, and so does an answer without an Ask."""
        asked, self._pending = self._pending, False
        if self.decided or not asked or not probability >= self.policy.threshold:
            return []
        if self._verify:
            self.decided, self._verifying = "skipped", True
            return [Decide("skipped")]
        return self._stop("skipped")

    def tick(self, now_ns: int) -> list[Action]:
        """Time has passed: give up what is silent. Harmless at any time."""
        if self._first_ns is None or self.closed:
            return []
        if now_ns >= self._first_ns + self.policy.limit_ns:
            return self._stop("limit")
        coming = list(self._coming())
        if coming and all(now_ns >= self._heard_ns.get(m, self._first_ns) + self.policy.patience_ns for m in coming):
            for m in coming:
                self.senses[m] = Sense.SILENT
        return self._next()

    def ended(self) -> list[Action]:
        """Nothing more will come at all."""
        if self._first_ns is None or self.closed:
            return []
        return self._close("ended")

    def _next(self) -> list[Action]:
        coming = list(self._coming())
        if not coming:
            return self._close("silent" if Sense.SILENT in self.senses.values() else "complete")
        done = Sense.DONE in self.senses.values()
        if self.decided or not done:
            return []
        reached = min(self._progress[m] for m in coming)
        passed = [c for c in self.policy.checkpoints if self._asked < c <= reached + 1e-9]
        if not passed:
            return []
        self._asked, self._pending = passed[-1], True
        return [AskGate(self._asked)]

    def _stop(self, reason: str) -> list[Action]:
        coming = tuple(self._coming())
        for m in coming:
            self.senses[m] = Sense.STOPPED
        return [*([Stop(coming)] if coming else []), *self._close(reason)]

    def _close(self, reason: str) -> list[Action]:
        if self._verifying:
            self._verifying = False
            return [Verify()]
        self.decided = reason
        return [Decide(reason)]

    def _coming(self) -> Iterable[str]:
        return (m for m, sense in self.senses.items() if sense in COMING)
