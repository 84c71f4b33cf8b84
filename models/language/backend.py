"""What a language model is to this project: the protocol that every backend keeps, and what it may say.

A backend of one's own is a class with these five methods and `abilities`; nothing is inherited. Its keyword parameters
are what a pipeline file may set. docs/writing-a-backend.md builds one.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Literal, Protocol, runtime_checkable

from thalweg.models.errors import ModelError

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Picture:
    """What a question is about, a JPEG. `text`: what is asked beside it, in place of the text for who sees nothing."""

    jpeg: bytes = field(repr=False)
    text: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of what the model is told. Its text is valid Unicode, without half surrogates. `told`: how many leading
    characters of it are not asked, but what was looked up for the question.

    `picture`: for backends whose abilities say `images`; no other is ever given one.
    """

    role: Role
    text: str
    picture: Picture | None = None
    told: int = field(default=0, compare=False)

    @property
    def asked(self) -> str:
        """What is asked, without that."""
        return self.text[self.told :]


def without_pictures(messages: Sequence[Message]) -> list[Message]:
    """The same in words alone."""
    return [message if message.picture is None else replace(message, picture=None) for message in messages]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked of a backend. Fields may be added; a backend ignores those that its abilities do not name.

    `prefix`: the reply has begun so; only what follows is wanted (`Abilities.continues`). `logprobs`: log-probabilities
    of the tokens are wanted, too (`Abilities.logprobs`). `trial`: the answer may be thrown away, the question go on.
    `accepted`: of a trial, whether it is wanted by now: the question was over.
    """

    messages: Sequence[Message]
    max_tokens: int
    temperature: float = 0.0
    prefix: str = ""
    logprobs: bool = False
    trial: bool = False
    accepted: Callable[[], bool] = field(default=lambda: False, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """What a backend can do beyond answering.

    `continues`: a reply that has begun elsewhere. "prefix": exactly from there on; "instruct": told to, so that words
    may be repeated or changed at the seam; "none": it begins anew. `reads_along`: `prefill` costs nothing but time of a
    machine of one's own, and makes the next reply come sooner. `images`: it looks at the picture of a message.
    """

    continues: Literal["prefix", "instruct", "none"] = "none"
    logprobs: bool = False
    images: bool = False
    reads_along: bool = False


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the reply, to be shown and spoken. Where asked for, `logprobs` are those of its tokens, and `margins`
    how far each of these lies above the next best one.
    """

    text: str
    logprobs: tuple[float, ...] = ()
    margins: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Thinking:
    """A piece of what the model thinks before it replies: neither shown nor spoken nor remembered."""

    text: str


@dataclass(frozen=True, slots=True)
class Progress:
    """A sign of life without content: the server has accepted the question; said who speaks; said nothing; or pings."""

    kind: Literal["accepted", "role", "empty", "ping"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What the reply took, as the server says; None where it does not. `prompt_tokens` includes `cached_tokens`."""

    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    reply_tokens: int | None = None
    prompt_ms: float | None = None
    reply_ms: float | None = None


class Reason(Enum):
    """Why a reply ended: said; at the number of tokens asked for; held back by a filter; to call a tool; cut by us."""

    STOP = "stop"
    LENGTH = "length"
    FILTER = "filter"
    TOOL = "tool"
    CUT = "cut"


@dataclass(frozen=True, slots=True)
class Finish:
    """The reply is whole. The last delta of each, and of no other kind of end."""

    reason: Reason = Reason.STOP


Delta = Text | Thinking | Progress | Usage | Finish


class ErrorKind(Enum):
    """What went wrong, by its remedy: other settings, waiting, another server, a shorter prompt, another question.

    NOBODY: none of several backends may be asked, because of privacy, cost or failures. UNSURE: the first words of an
    answer were below the required confidence.
    """

    SETTINGS = "settings"
    UNREACHABLE = "unreachable"
    BUSY = "busy"
    REFUSED = "refused"
    TOO_LONG = "too long"
    SILENT = "silent"
    BROKE_OFF = "broke off"
    NO_ANSWER = "no answer"
    FILTERED = "filtered"
    NOBODY = "nobody"
    UNSURE = "unsure"


_PUBLIC = {
    ErrorKind.SETTINGS: "The language model is not set up properly here.",
    ErrorKind.UNREACHABLE: "The language model cannot be reached at the moment.",
    ErrorKind.BUSY: "The language model is too busy at the moment.",
    ErrorKind.REFUSED: "The language model did not accept this question.",
    ErrorKind.TOO_LONG: "The conversation has become too long for the language model.",
    ErrorKind.SILENT: "The language model did not answer in time.",
    ErrorKind.BROKE_OFF: "The language model broke off in the middle of its answer.",
    ErrorKind.NO_ANSWER: "The language model gave no answer.",
    ErrorKind.FILTERED: "The language model may not answer this.",
    ErrorKind.UNSURE: "The language model is not sure of its answer.",
    ErrorKind.NOBODY: "I cannot answer that at the moment.",
}


class BackendError(ModelError):
    """A language model that refused, hung, broke off or answered something that is not an answer.

    Its text is for the operator and may name addresses, never a key; `public` is for the person who asked. `status` and
    `retry_after_s` are the server's own, where it gave any.
    """

    def __init__(
        self, kind: ErrorKind, text: str, *, status: int | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(text)
        self.kind, self.status, self.retry_after_s = kind, status, retry_after_s
        self.public = _PUBLIC[kind]


@runtime_checkable
class Backend(Protocol):
    """A language model that answers, embedded or behind an address. Used on one event loop, several replies at once.

    `reply` is an async generator. It gives deltas as they come and ends with exactly one `Finish`, or raises
    BackendError; any other exception fails that reply alone. It is closed early where the rest is not wanted:
    generation then stops as soon as possible. The time of a reply is bounded from outside, so `Progress` should be told
    where there is any.
    """

    abilities: Abilities

    @property
    def name(self) -> str:
        """What messages for the operator call it, such as "the language model at http://…". No secret."""
        ...

    async def open(self) -> None:
        """Get ready: load what is embedded, check settings. Raises BackendError, with everything closed again."""
        ...

    async def close(self) -> None:
        """Hang up and free. Idempotent, and allowed in the middle of anything."""
        ...

    def reply(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Answer."""
        ...

    async def prefill(self, request: Request) -> None:
        """Read `request`, which will soon be asked with more at its end, so that the reply comes sooner. Best effort:
        nothing is raised. Without `Abilities.reads_along` it may do nothing.
        """
        ...


@runtime_checkable
class Warms(Protocol):
    """A backend that can also connect ahead, for those where that takes time."""

    async def warm(self, request: Request) -> bool:
        """Get ready for a question that will begin like `request`, without asking or sending anything of it: it may not
        come. Called when somebody begins to speak, once a turn. Whether there is a connection now that was not there
        before. Raises BackendError; anything else is counted as that.
        """
        ...
