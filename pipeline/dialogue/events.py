"""Messages of a conversation besides audio and video: events to the visitor, controls from them.

On the wire each is one JSON object, `{"v": 1, "type": "caption", …}`. A reader ignores unknown fields and types; `v`
rises with an incompatible change.
"""

from __future__ import annotations

import json
import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, TypeAdapter, ValidationError

from thalweg.pipeline.decoding import decoder, shown
from thalweg.pipeline.errors import ThalwegError

VERSION = 1
MAX_CONTROL_BYTES = 8192  # 2000 characters of any script, as `Say` takes them
MAX_EVENT_BYTES = 1 << 18
_LONGEST_NUMBER = 20
QUESTION_ID = "^[A-Za-z0-9_-]{1,40}$"


class ControlError(ThalwegError):
    """The message is not a valid control or event of this version."""


class Event(BaseModel):
    """An event sent to the person. `keep`: delivered after a reconnection, too, if the person was away."""

    model_config = ConfigDict(frozen=True)
    keep: ClassVar[bool] = False
    type: str

    def encode(self) -> str:
        """One JSON object."""
        return json.dumps({"v": VERSION, **self.model_dump(exclude_none=True)}, ensure_ascii=False)


class Hello(Event):
    """The first event of every connection: the id of the conversation, and whether it was resumed.

    `known`: ids of the last written questions that have reached it; what is not among them may be sent again.
    """

    type: Literal["hello"] = "hello"
    session: str
    name: str
    resumed: bool
    video: bool
    turn: int = 0
    known: tuple[str, ...] | None = None


class Caption(Event):
    """The transcript of a turn so far. `stable`: leading characters that are settled; `final`: it is complete.

    `id`: of the written question that it is.
    """

    keep = True
    type: Literal["caption"] = "caption"
    turn: int
    text: str
    stable: int
    final: bool
    id: str | None = None


class Answer(Event):
    """A piece of the answer of a turn. `last` closes it."""

    keep = True
    type: Literal["answer"] = "answer"
    turn: int
    text: str
    last: bool


class Answered(Event):
    """Which of several language models answered a turn, by its name in the pipeline file."""

    keep = True
    type: Literal["answered"] = "answered"
    turn: int
    by: str


class Heard(Event):
    """The part of an answer that was played. `complete`: all of it; otherwise it was interrupted here."""

    keep = True
    type: Literal["heard"] = "heard"
    turn: int
    text: str
    complete: bool


class State(Event):
    """Who has the floor: no one (listening), the person (hearing) or the model (thinking, speaking). Held: the model
    waits to learn whether the person means to interrupt.
    """

    type: Literal["state"] = "state"
    state: Literal["listening", "hearing", "thinking", "speaking", "held"]
    turn: int


class Latency(Event):
    """Milestones of one turn, ms after the end of the visitor's speech; the last one is the first sample sent to the
    visitor.
    """

    type: Literal["latency"] = "latency"
    turn: int
    final_ms: float | None = None
    first_token_ms: float | None = None
    first_audio_ms: float | None = None
    played_ms: float | None = None


class Interrupted(Event):
    """An answer was stopped: the time from the decision to its last sample sent, and the reason."""

    type: Literal["interrupted"] = "interrupted"
    turn: int
    cause: str
    stale_ms: float


class Dismissed(Event):
    """A sound that is not a turn was ignored: a back-channel, a cough, an echo. The current answer goes on."""

    keep = True
    type: Literal["dismissed"] = "dismissed"
    turn: int
    cause: str


class Look(Event):
    """Regions of the visitor's video that matter: boxes (x, y, width, height, weight), all 0…1 of the frame.

    `soften`: everything else may be blurred before it is sent.
    """

    type: Literal["look"] = "look"
    boxes: tuple[tuple[float, float, float, float, float], ...]
    soften: bool = False


class Limits(Event):
    """Limits for the visitor's camera: bit/s, frames per second, and the picture's size as a share."""

    type: Literal["limits"] = "limits"
    bitrate_bps: int | None = None
    rate: float | None = None
    scale: float | None = None


class StageStats(BaseModel):
    """One stage: units and microseconds of work since the last report, packets waiting and dropped."""

    name: str
    units: int
    work_us: int
    queue: int
    dropped: int


class Stats(Event):
    """What each stage did since the last report, `span_ms` ago."""

    type: Literal["stats"] = "stats"
    span_ms: float
    stages: list[StageStats]


class Trouble(Event):
    """Something went wrong: `message` is a sentence for people, with a way on."""

    keep = True
    type: Literal["trouble"] = "trouble"
    code: str
    message: str
    turn: int = 0


class Preferred(Event):
    """What the person set for this conversation, as it is from now on: of their next turn, or the next sentence."""

    type: Literal["preferred"] = "preferred"
    name: str
    value: str | float


class Pong(Event):
    """The answer to a ping."""

    type: Literal["pong"] = "pong"
    t: float


class Reconnect(Event):
    """This connection is about to end and the conversation is not: connect anew, with the key, as after a loss."""

    type: Literal["reconnect"] = "reconnect"


class Bye(Event):
    """The conversation ends, and why."""

    type: Literal["bye"] = "bye"
    code: str
    message: str


class Control(BaseModel):
    """Anything the person's side asks for."""

    model_config = ConfigDict(frozen=True)


class Stop(Control):
    """Stop the answer under way."""

    type: Literal["stop"] = "stop"


class Say(Control):
    """A question in writing, for a person who cannot or does not want to speak. `text`: 1 to 2000 characters.

    `id`: the client's name for it, by which it is answered once however often it is sent (`written.py`).
    """

    type: Literal["say"] = "say"
    id: Annotated[str, Field(pattern=QUESTION_ID)] | None = None
    text: Annotated[str, Field(min_length=1, max_length=2000)]


class Watch(Control):
    """Begin or end the reports of what the stages do."""

    type: Literal["watch"] = "watch"
    on: bool


class Echo(Control):
    """Whether the person's side removes the sound of its own speaker from what the microphone hears."""

    type: Literal["echo"] = "echo"
    cancelled: bool


class Prefer(Control):
    """A preference that the pipeline file offers, by its name, for this conversation alone."""

    type: Literal["prefer"] = "prefer"
    name: Annotated[str, Field(max_length=200)]
    value: Annotated[str, Field(max_length=80)] | StrictInt | StrictFloat


class Ping(Control):
    """Asks for a pong with the same `t`."""

    type: Literal["ping"] = "ping"
    t: float


class Again(Control):
    """A question of before, to be answered now: of ours alone, no message is one."""

    text: str


_CONTROLS: TypeAdapter[Stop | Say | Watch | Echo | Prefer | Ping] = TypeAdapter(
    Annotated[Stop | Say | Watch | Echo | Prefer | Ping, Field(discriminator="type")]
)


_EVENTS: dict[str, type[Event]] = {
    str(kind.model_fields["type"].default): kind for kind in Event.__subclasses__()
}  # fmt: skip


@decoder(ControlError, "the message")
def decode_control(message: str | bytes) -> Control:
    """The control in a message. Raises ControlError on anything else, saying what is wrong with it."""
    found = _object(message, MAX_CONTROL_BYTES)
    try:
        return _CONTROLS.validate_python(found)
    except ValidationError as error:
        raise _invalid(error) from None


@decoder(ControlError, "the message")
def decode_event(message: str | bytes) -> Event | None:
    """The event in a message, None for one of a type that is not known here. Raises ControlError on anything else."""
    found = _object(message, MAX_EVENT_BYTES)
    name = found.get("type")
    if type(name) is not str:
        raise ControlError(f"a message of type {shown(name)}, expected a name")
    kind = _EVENTS.get(name)
    try:
        return None if kind is None else kind.model_validate(found)
    except ValidationError as error:
        raise _invalid(error) from None


def _object(message: str | bytes, at_most: int) -> dict[str, Any]:
    """The JSON object of a message of this version, its numbers bounded. Raises ControlError."""
    size = len(message if isinstance(message, bytes) else message.encode(errors="surrogatepass"))
    if size > at_most:
        raise ControlError(f"a message of {size} bytes, expected at most {at_most}")
    try:
        found: Any = json.loads(message, parse_int=_whole, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError):
        raise ControlError("a message that is not JSON") from None
    if not isinstance(found, dict):
        raise ControlError("a message that is not a JSON object")
    version = found.get("v")
    if type(version) is not int or version != VERSION:
        said = shown(version if isinstance(version, str) else shown(version))
        raise ControlError(f"a message of version {said}, this is version {VERSION}")
    return found


def _whole(digits: str) -> int:
    if len(digits) > _LONGEST_NUMBER:
        raise ControlError(f"a number of {len(digits)} digits, expected at most {_LONGEST_NUMBER}")
    return int(digits)


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ControlError(f"the number {text[:_LONGEST_NUMBER]}, expected a finite one")
    return number


def _invalid(error: ValidationError) -> ControlError:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return ControlError(f"{'.'.join(map(str, first['loc'])) or 'message'}: {first['msg']}")
