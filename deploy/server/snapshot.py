"""What a conversation host tells of a conversation, for another host to go on with it: small, plain, and bounded.

The stages' own memories, how much was heard of the answer under way, and the question it answers. Nothing of sound,
pictures or the connection. It holds what people said: it goes over private links only, is kept in memory only, and is
written to no log.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from thalweg.deploy.cluster.deployment import Deployment
from thalweg.pipeline.dialogue.events import Again, Control, Say
from thalweg.pipeline.dialogue.playout import Playout
from thalweg.pipeline.dialogue.written import Written, WrittenMemory
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.packet import AMBIENT

MOST_BYTES = 64_000
ASK_S = 1.0
_TOKEN = 12


class SnapshotError(ThalwegError):
    """A snapshot that cannot be gone on with. Never says what stands in it."""


class AnswerHeard(BaseModel):
    """How much of an answer was heard."""

    model_config = ConfigDict(frozen=True)
    turn: int
    text: str = Field(max_length=MOST_BYTES)


class Snapshot(BaseModel):
    """`epoch`: the highest so far; `stages`: stage → its memory; `heard`: of the answer that is being heard.

    `written`: questions in writing that reached it.
    """

    model_config = ConfigDict(frozen=True)
    epoch: int = Field(ge=0, le=1 << 62)
    stages: dict[str, dict[str, Any]] = Field(default_factory=dict, max_length=200)
    heard: AnswerHeard | None = None
    written: WrittenMemory = WrittenMemory()

    @property
    def question(self) -> str:
        """What was asked and is not answered to its end yet; empty where nothing is."""
        asked = [state["asked"] for state in self.stages.values() if isinstance(state.get("asked"), dict)]
        return next((text for each in asked if isinstance(text := each.get("text"), str)), "")

    @property
    def to_ask(self) -> Control | None:
        """What is to be asked where the conversation goes on: a written question that no stage remembers, or else the
        one that is not answered to its end.
        """
        waiting = self.written.waiting
        if waiting is not None and (not waiting.turn or waiting.turn > self._newest):
            return Say(id=waiting.id, text=waiting.text)
        return Again(text=self.question) if self.question else None

    @property
    def _newest(self) -> int:
        """The newest turn that a stage remembers; 0 where none does."""
        turns = [AMBIENT, 0]
        for state in self.stages.values():
            past = state.get("past")
            told = [state.get("asked"), *(past if isinstance(past, list) else ())]
            turns += [each["turn"] for each in told if isinstance(each, dict) and isinstance(each.get("turn"), int)]
        return max(turns)

    @classmethod
    def read(cls, plain: object) -> Self:
        """One that `model_dump` made, elsewhere. Raises SnapshotError."""
        try:
            found = cls.model_validate(plain)
        except ValidationError as error:
            where = ".".join(map(str, error.errors(include_input=False, include_url=False)[0]["loc"])) or "snapshot"
            raise SnapshotError(f"a snapshot of a conversation cannot be read: {where} is not as expected") from None
        if found.size > MOST_BYTES:
            raise SnapshotError(f"a snapshot of {found.size} bytes, expected at most {MOST_BYTES}")
        return found

    @property
    def size(self) -> int:
        """Bytes on the wire."""
        return len(json.dumps(self.model_dump()))


async def snapshot_of(deployment: Deployment, playout: Playout, questions: Written) -> Snapshot:
    """What there is to go on with now. Memories that would make it too large are left out, the largest first, and how
    much was heard where that alone would be: the answer is then said from its beginning.

    A worker elsewhere that does not answer within `ASK_S` is left out, too.
    """
    memories = await asyncio.gather(*(_asked(deployment, name) for name in deployment.hosts))
    stages: dict[str, Any] = {}
    for memory in memories:
        stages |= memory.get("stages", {})
    text = playout.heard
    known = playout.epoch != AMBIENT and len(json.dumps(text)) <= MOST_BYTES // 2
    heard = AnswerHeard(turn=playout.epoch, text=text) if known else None
    epoch = max((memory.get("epoch", AMBIENT) for memory in memories), default=AMBIENT)
    written = questions.remembered()  # read last: what a stage remembers has come here before
    found = Snapshot(epoch=max(0, epoch), stages=stages, heard=heard, written=written)
    while found.stages and found.size > MOST_BYTES:
        largest = max(found.stages, key=lambda name: len(json.dumps(found.stages[name])))
        found = found.model_copy(update={"stages": {n: s for n, s in found.stages.items() if n != largest}})
    return found


async def recall(deployment: Deployment, snapshot: Snapshot) -> None:
    """Have the stages of a deployment go on from it. Raises ThalwegError where one of its workers is gone."""
    heard = None if snapshot.heard is None else snapshot.heard.model_dump()
    memory: Any = {"epoch": snapshot.epoch, "stages": snapshot.stages}
    for host in deployment.hosts.values():
        await host.recall(memory, heard)


async def _asked(deployment: Deployment, name: str) -> dict[str, Any]:
    try:
        async with asyncio.timeout(ASK_S):
            return dict(await deployment.hosts[name].remembered())
    except (ThalwegError, TimeoutError):
        return {}


def session_id(host: str) -> str:
    """A new id that names its host. It grants no access: to reconnect, a client needs the conversation's key."""
    token = secrets.token_urlsafe(_TOKEN * 3 // 4)
    return f"{host}-{token}" if host else token


def host_of(session: str) -> str:
    """The host that an id names; empty for one that names none."""
    return session[: -_TOKEN - 1] if len(session) > _TOKEN + 1 and session[-_TOKEN - 1] == "-" else ""
