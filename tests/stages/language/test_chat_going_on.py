"""An answer that was begun elsewhere, and is finished here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any, ClassVar

import pytest

from thalweg.models.language.backend import Abilities, BackendError, Delta, ErrorKind, Finish, Request, Text
from thalweg.pipeline.file.source import SpecError
from thalweg.pipeline.file.spec import Spec, load_spec
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Token, Transcript
from thalweg.pipeline.stage import Context
from thalweg.stages.language.chat import Chat


class Reciter:
    """Says a text in pieces, whatever it is asked; `refuses`: so many questions first, since they are too long."""

    name = "reciter"
    abilities = Abilities(continues="prefix")

    def __init__(self, *pieces: str, refuses: int = 0) -> None:
        self.pieces, self.refuses = pieces, refuses
        self.asked: list[Request] = []
        self.read: list[str] = []

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def prefill(self, request: Request) -> None:
        self.read.append(request.messages[-1].text)

    async def reply(self, request: Request) -> AsyncGenerator[Delta, None]:
        self.asked.append(request)
        if len(self.asked) <= self.refuses:
            raise BackendError(ErrorKind.TOO_LONG, "is asked too much")
        for piece in self.pieces:
            yield Text(piece)
        yield Finish()


class Asks:
    """A source of questions."""

    outputs: ClassVar = {"transcript": Transcript}

    async def run(self, ctx: Context) -> None: ...


class Ctx:
    """Keeps tokens."""

    def __init__(self, *, lent: bool = False) -> None:
        self.lent = lent
        self.out: list[tuple[str, bool]] = []

    def emit(self, payload: Token, *, port: str) -> None:
        self.out.append((payload.text, payload.last))

    def peek(self, port: str) -> None:
        return None

    async def waiting(self) -> None:
        await asyncio.Event().wait()


def asked(text: str, epoch: int = 1) -> Packet[Transcript]:
    return Packet(stream="transcript", seq=0, time=0, epoch=epoch, payload=Transcript(text=text, final=True))


def tokens(*texts: str, whole: bool = False) -> Sequence[Token]:
    return [*(Token(text=text) for text in texts), *([Token(text="", last=True)] if whole else [])]


def past(chat: Chat) -> list[tuple[str, str]]:
    return [(each["asked"], each["said"]) for each in chat.snapshot()["past"]]


def go_on(backend: Any, sent: Sequence[Token], *, over: bool = False, before: int = 0) -> tuple[Chat, Ctx]:
    chat, ctx = Chat(backend=backend), Ctx()
    state = chat.snapshot()
    state["past"] = [{"epoch": -n, "asked": f"a{n}", "said": f"b{n}"} for n in range(before)]
    chat.restore(state)
    asyncio.run(chat.go_on(asked("where?"), sent, over, ctx))  # type: ignore[arg-type]
    return chat, ctx


def test_it_goes_on_behind_the_last_word_that_came() -> None:
    backend = Reciter(" river", " Sei", "ne.")
    chat, ctx = go_on(backend, tokens("On ", "the "))
    assert backend.asked[0].prefix == "On the"
    assert "".join(text for text, _ in ctx.out) == "river Seine." and ctx.out[-1][1]
    assert past(chat) == [("where?", "On the river Seine.")]


def test_a_model_that_begins_anew_says_no_word_twice() -> None:
    chat, ctx = go_on(Reciter("On the ri", "ver Sei", "ne."), tokens("On ", "the "))
    assert "".join(text for text, _ in ctx.out) == "river Seine."
    assert past(chat) == [("where?", "On the river Seine.")]


def test_an_answer_that_is_over_is_remembered_as_far_as_it_came_and_no_model_is_asked() -> None:
    for sent, over in ((tokens("On ", "it", whole=True), False), (tokens("On ", "it"), True)):
        backend = Reciter("no")
        chat, ctx = go_on(backend, sent, over=over)
        assert past(chat) == [("where?", "On it")] and ctx.out == [] and backend.asked == []


def test_of_an_answer_that_was_over_before_a_word_nothing_is_remembered() -> None:
    chat, ctx = go_on(Reciter("no"), [], over=True)
    assert past(chat) == [] and ctx.out == [] and chat.snapshot()["answered"] == 1


def test_a_model_that_can_take_less_forgets_the_oldest_turns_and_goes_on() -> None:
    backend = Reciter(" river.", refuses=1)
    chat, ctx = go_on(backend, tokens("On ", "the "), before=2)
    assert [len(each.messages) for each in backend.asked] == [6, 4]
    assert past(chat) == [("a1", "b1"), ("where?", "On the river.")]
    assert "".join(text for text, _ in ctx.out) == "river."


def test_on_a_lent_worker_it_emits_whole_words_and_drafts_nothing() -> None:
    async def case() -> None:
        chat, ctx = Chat(backend=Reciter("On the", " ri", "ver."), draft=True), Ctx(lent=True)
        guess = Transcript(text="where?", final=False, trial=True)
        trial = Packet(stream="transcript", seq=0, time=0, epoch=1, payload=guess)
        await chat.process(trial, ctx)  # type: ignore[arg-type]
        assert ctx.out == []
        await chat.process(asked("where?"), ctx)  # type: ignore[arg-type]
        assert ctx.out == [("On ", False), ("the ", False), ("river.", True)]

    asyncio.run(case())


def test_a_model_that_has_nothing_to_add_behind_a_whole_sentence_ends_the_answer() -> None:
    chat, ctx = Chat(backend=Reciter()), Ctx()
    asyncio.run(chat.go_on(asked("Where?"), tokens("It is in ", "Paris. "), False, ctx))  # type: ignore[arg-type]
    assert ctx.out == [("", True)]
    assert [exchange["said"] for exchange in chat.snapshot()["past"]] == ["It is in Paris. "]


@pytest.mark.parametrize(
    ("policy", "said"),
    [("{privacy: edge}", "privacy: edge"), ("{privacy: fog}", "privacy: fog"), ("{private: [Ann]}", "private")],
)
def test_a_chat_whose_policy_keeps_words_at_home_is_not_placed_elsewhere(policy: str, said: str) -> None:
    def placed(policy: str) -> Spec:
        return load_spec(
            f"name: p\nstages:\n  ask: {{use: '{__name__}:Asks'}}\n"
            f"  chat: {{use: language.chat, backends: {{a: {{backend: echo, where: edge}}}}, policy: {policy}}}\n"
            "connections:\n  - ask -> chat\nplacement:\n  chat: {edge: {quality: 0.5}, cloud: {}}\n"
        )

    assert placed("{}").deployed.stages["chat"].placing is not None
    with pytest.raises(SpecError, match=f"must not leave this machine: its `policy` says `{said}`"):
        placed(policy)


def test_a_model_at_a_lent_worker_reads_along_and_drafts_nothing() -> None:
    backend = Reciter("On the Seine. ")
    chat, ctx = Chat(backend=backend, prefill=True, draft=True), Ctx(lent=True)
    for trial in (False, True):
        growing = Transcript(text="where is the city of paris", final=False, stable_chars=12, trial=trial)
        packet = Packet(stream="transcript", seq=0, time=0, epoch=1, payload=growing)
        asyncio.run(chat.process(packet, ctx))  # type: ignore[arg-type]
    assert backend.read == ["where is the city of"]
    assert backend.asked == [] and ctx.out == []
