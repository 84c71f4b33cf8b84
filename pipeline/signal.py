"""Control that overtakes packets.

A signal travels along the edges of the graph, stage by stage, in the direction it was raised in; a stage may
act on it, and it goes on. Only the end of a stream keeps its place behind the packets before it, and so is no
signal here but a property of the channel (`Channel.close`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

LATER = {"later": True}
"""Of fields that were added last: left out on the wire where they hold their default, so that older peers can read."""


class Direction(Enum):
    """Which way along the edges: towards sources, towards sinks, or both."""

    UP = "up"
    DOWN = "down"
    BOTH = "both"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """Anything that may overtake packets. `origin` is the stage that raised it."""

    origin: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupt(Signal):
    """A new epoch: packets of an older one (AMBIENT excepted) are dropped wherever they are met."""

    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip(Signal):
    """The rest of the sample `epoch` of stream `stream` is not needed: stop sensing and encoding it."""

    stream: str
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Configure(Signal):
    """Settings for the stage `stage`, of those it declares configurable.

    `epoch`: the sample they were chosen for; a stage that has gone on to a newer one does not take them. 0: from now
    on; a stage that knows samples (`declare`) lets the one under way end as it is.
    """

    stage: str
    settings: Mapping[str, object]
    epoch: int = 0


def by_stage(settings: Mapping[str, object]) -> dict[str, dict[str, object]]:
    """Settings by stage, of names with their stage: `{"ear.size": "m"}` → `{"ear": {"size": "m"}}`."""
    found: dict[str, dict[str, object]] = {}
    for name, value in settings.items():
        stage, _, parameter = name.rpartition(".")
        found.setdefault(stage, {})[parameter] = value
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Region(Signal):
    """Where the viewer looks: boxes (x, y, width, height, weight), all 0…1 of the frame, valid from `time`."""

    time: int
    boxes: tuple[tuple[float, float, float, float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bitrate(Signal):
    """The most that a video sender may produce, bit/s."""

    bitrate_bps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Decodes(Signal):
    """Up: the video codecs that the viewer can decode, as `EncodedVideo.codec` has them, best first."""

    codecs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flush(Signal):
    """Give out at once what is held back for more to come, as at the end of a stream, and go on.

    A push-to-talk button that is let go ends the turn so, without the silence that would otherwise end it. `epoch`: the
    turn that it ends; one that has begun since goes on. 0: whichever is under way.
    """

    epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Words(Signal):
    """Up: what has been understood of the turn `epoch` so far, while its speaker pauses."""

    epoch: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure(Signal):
    """The stage `origin` could not do its part for `epoch`. Release what is held for that epoch: it will not end.

    `message` is for the operator and may hold confidential details. `public` is a sentence for the person who asked, or
    empty.
    """

    epoch: int
    message: str
    public: str = field(default="", metadata=LATER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold(Signal):
    """Pause the output and be ready to resume: someone speaks, and may or may not mean to interrupt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume(Signal):
    """Go on where `Hold` stopped: it was no interruption."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Playing(Signal):
    """Up: the first sample of the answer of `epoch` was played at `time`."""

    epoch: int
    time: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead(Signal):
    """Up: of the answer of `epoch`, sound for `ahead_ns` from now on is there to be played."""

    epoch: int
    ahead_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Played(Signal):
    """Up: the answer of `epoch` is over; `text` is what was really played of it, `complete` if that is all."""

    epoch: int
    text: str
    complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled(Signal):
    """The stage `origin` did its last unit of `epoch` at `unix_ns` (Unix time). Used to trace the whole turn."""

    epoch: int
    unix_ns: int


class KeyFrame(Signal):
    """Up: the viewer cannot go on without a key frame."""
