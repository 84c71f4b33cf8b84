"""Control messages that overtake packets.

A signal travels along the edges of the graph, stage by stage, in the direction in which it was raised. A stage may act
on it, and it goes on. The end of a stream must stay behind its packets; so it is not a signal but a property of the
channel (`Channel.close`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

LATER = {"later": True}
"""Metadata of recently added fields: omitted on the wire at their default, so that older peers can read."""


class Direction(Enum):
    """Direction along the edges: towards sources, towards sinks, or both."""

    UP = "up"
    DOWN = "down"
    BOTH = "both"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """Anything that may overtake packets. `origin` is the stage that raised it."""

    origin: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupt(Signal):
    """A new epoch. Packets of older epochs, except AMBIENT, are dropped everywhere."""

    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip(Signal):
    """The rest of sample `epoch` of stream `stream` is not needed: stop sensing and encoding it."""

    stream: str
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Configure(Signal):
    """New settings for the stage `stage`, among those that it declares configurable.

    `epoch`: the sample that they are for; a stage at a newer sample ignores them. 0: from now on; a stage with
    `declare` applies them from the next sample on.
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
    """The regions that the viewer needs: (x, y, width, height, weight), all 0…1 of the frame, valid from `time`."""

    time: int
    boxes: tuple[tuple[float, float, float, float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bitrate(Signal):
    """The most that a video sender may produce, bit/s."""

    bitrate_bps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Decodes(Signal):
    """Up: the video codecs that the viewer can decode, named as in `EncodedVideo.codec`, best first."""

    codecs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flush(Signal):
    """Emit at once what is held back for later input, as at the end of a stream, and go on.

    A released push-to-talk button ends the turn by this signal, without the usual silence. `epoch`: the turn to end; a
    newer turn goes on. 0: the current turn.
    """

    epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Words(Signal):
    """Up: the text recognised in the turn `epoch` so far, sent while its speaker pauses. `language`: code of the text's
    language; empty where it is not known.
    """

    epoch: int
    text: str
    language: str = field(default="", metadata=LATER)


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
    """Continue after `Hold`: it was not an interruption."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Playing(Signal):
    """Up: the first sample of the answer of `epoch` was played at `time`."""

    epoch: int
    time: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead(Signal):
    """Up: the audio of the answer of `epoch` that is ready lasts for `ahead_ns` from now."""

    epoch: int
    ahead_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Played(Signal):
    """Up: the answer of `epoch` has ended. `text`: the part that was played; `complete`: that is all of it."""

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
