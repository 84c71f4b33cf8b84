"""People who write and hear answers on a server of several hosts, while hosts die, are emptied, or are replaced.

Each asks a question, hears its answer to the end, waits a moment, and asks the next. Their connections are cared for as
the page does it (`Talker.stay`). They send no sound. An answer names all questions so far: so the last one shows which
the conversation remembers, and how often.

    lost        questions whose answer was heard to its end, and which the conversation does not remember
    doubled     questions that it remembers twice, and answers that were told to have ended twice
    unanswered  questions whose answer did not come within `ANSWER_S`
    dropped     conversations that ended, or whose client gave up coming back
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.deploy.bench.result import OURS, Result, quantile
from thalweg.deploy.runtime.tasks import beside
from thalweg.deploy.server.snapshot import host_of
from thalweg.transports.webrtc.client import Talker
from thalweg.transports.webrtc.signalling import Signalling, TalkError

ANSWER_S, PAUSE_S, BEFORE_S, LAST_S = 30.0, 1.0, 4.0, 3.0
JOIN_AT_ONCE, JOIN_S = 4, 120.0
TICK_S = 0.05


@dataclass(slots=True)
class Found:
    """Of all people: seconds from the event to the connection elsewhere, and the longest time without sound of each."""

    people: int = 0
    moves: list[float] = field(default_factory=list)
    silences: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    turns: int = 0
    lost: int = 0
    doubled: int = 0
    unanswered: int = 0
    dropped: int = 0
    took_s: float = 0.0

    def tell(self, result: Result, case: str) -> None:
        """Its rows."""
        n = len(self.moves)
        if n:
            p50, p95, most = quantile(self.moves, 0.5), quantile(self.moves, 0.95), max(self.moves)
            result.add(case, OURS, n, "ms", moved_p50=1e3 * p50, moved_p95=1e3 * p95, moved_max=1e3 * most)
        if self.silences:
            p50, most = quantile(self.silences, 0.5), max(self.silences)
            result.add(case, OURS, self.people, "ms", silence_p50=1e3 * p50, silence_max=1e3 * most)
        if self.waits:
            p50, most = quantile(self.waits, 0.5), max(self.waits)
            result.add(case, OURS, len(self.waits), "ms", answer_p50=1e3 * p50, answer_max=1e3 * most)
        result.add(case, OURS, self.people, "conversations", moves=n, dropped=self.dropped)
        result.add(case, OURS, self.turns, "turns", lost=self.lost, doubled=self.doubled, unanswered=self.unanswered)
        result.add(case, OURS, 1, "s", took=self.took_s)


class Person:
    """One of them. `silence_s`: the longest time between two packets of sound since `reset`; `waits`: for answers."""

    def __init__(self, url: str) -> None:
        self.talker = Talker(url, microphone=False)
        self.talker.on_event = self._event
        self.talker.on_audio = self._sound
        self.asked: list[str] = []
        self.answered: list[str] = []
        self.waits: list[float] = []
        self.ends: Counter[int] = Counter()
        self.silence_s = 0.0
        self._sound_ns = 0
        self._turn = asyncio.Event()
        self._last = ""

    @property
    def host(self) -> str:
        """Where the conversation is."""
        return host_of(self.talker.session)

    def reset(self) -> None:
        """Measure silence from now on."""
        self.silence_s, self._sound_ns = 0.0, self.talker.clock.now_ns()

    def heard_nothing(self) -> None:
        """Count the silence that lasts until now."""
        self._sound(self.talker.clock.now_ns(), np.zeros(0, np.float32))

    async def talk(self, stop: asyncio.Event, first_s: float) -> None:
        """Ask one question after the other; the first after `first_s`."""
        await asyncio.sleep(first_s)
        while not stop.is_set() and not self.talker.ended.is_set():
            question = f"q{len(self.asked)}"
            self.asked.append(question)
            began_ns = self.talker.clock.now_ns()
            if await self.ask(question) is not None:
                self.answered.append(question)
                self.waits.append((self.talker.clock.now_ns() - began_ns) / 1e9)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PAUSE_S):
                    await stop.wait()

    async def ask(self, question: str) -> str | None:
        """What was heard in answer, in the end; None where that did not come. An answer ends with its question; of one
        that was gone on with elsewhere only the rest is told, which may be nothing.
        """
        try:
            async with asyncio.timeout(ANSWER_S):
                self._turn.clear()
                self.talker.ask(question)
                while True:
                    await self._turn.wait()
                    if self._last.split()[-1:] in ([], [question]):
                        return self._last
                    self._turn.clear()
        except TimeoutError:
            return None

    def _event(self, event: dict[str, Any]) -> None:
        if event["type"] == "heard" and event["complete"]:
            self.ends[event["turn"]] += 1
            self._last = event["text"]
            self._turn.set()

    def _sound(self, time_ns: int, samples: NDArray[np.float32]) -> None:
        self.silence_s = max(self.silence_s, (time_ns - self._sound_ns) / 1e9)
        self._sound_ns = time_ns


Meanwhile = Callable[[list[Person]], Awaitable[list[float]]]


def gathered(url: str, count: int, meanwhile: Meanwhile) -> Found:
    """`count` people talk; `meanwhile` something happens to hosts: it gives the seconds to each new connection."""
    return asyncio.run(_gathered(url, count, meanwhile))


async def _gathered(url: str, count: int, meanwhile: Meanwhile) -> Found:
    people = [Person(url) for _ in range(count)]
    found = Found(people=count)
    slots = asyncio.Semaphore(JOIN_AT_ONCE)
    stop = asyncio.Event()

    async def joined(person: Person) -> None:
        async with slots, asyncio.timeout(JOIN_S):
            while True:
                try:
                    await person.talker.__aenter__()
                    return
                except TalkError:  # busy: hosts that share their processors with all of this
                    await asyncio.sleep(PAUSE_S)

    async with AsyncExitStack() as stack:
        async with asyncio.TaskGroup() as joining:
            for person in people:
                joining.create_task(joined(person))
        for person in people:
            stack.push_async_callback(person.talker.end)
            await stack.enter_async_context(beside(person.talker.stay()))
        async with asyncio.TaskGroup() as group:
            for number, person in enumerate(people):
                group.create_task(person.talk(stop, PAUSE_S * number / count))
            await asyncio.sleep(BEFORE_S)
            for person in people:
                person.reset()
            began_ns = people[0].talker.clock.now_ns()
            found.moves = await meanwhile(people)
            found.took_s = (people[0].talker.clock.now_ns() - began_ns) / 1e9
            await asyncio.sleep(LAST_S)
            for person in people:
                person.heard_nothing()
                found.silences.append(person.silence_s)
            stop.set()
        async with asyncio.TaskGroup() as group:
            for person in people:
                group.create_task(_look_back(person, found))
    return found


async def _look_back(person: Person, found: Found) -> None:
    """What the conversation remembers in the end."""
    found.turns += len(person.asked)
    found.unanswered += len(person.asked) - len(person.answered)
    found.waits += person.waits
    found.doubled += sum(times > 1 for times in person.ends.values())
    if person.talker.ended.is_set():
        found.dropped += 1
        return
    told = await person.ask("end")
    if told is None:
        found.unanswered += 1
        return
    remembered = Counter(told.split(" and "))
    found.lost += sum(question not in remembered for question in person.answered)
    found.doubled += sum(remembered[question] > 1 for question in person.asked)


async def left(people: list[Person], hosts: set[str], within_s: float) -> list[float]:
    """Wait until all people are connected to other hosts than these; seconds until each of those who are."""
    clock = people[0].talker.clock
    began_ns = clock.now_ns()
    at = {id(person) for person in people if person.host in hosts}
    moves: list[float] = []
    while at and (clock.now_ns() - began_ns) / 1e9 < within_s:
        for person in people:
            if id(person) not in at:
                continue
            talker = person.talker
            if talker.ended.is_set():
                at.discard(id(person))
            elif person.host not in hosts and talker.there and talker.connected_ns > began_ns:
                at.discard(id(person))
                moves.append((talker.connected_ns - began_ns) / 1e9)
        await asyncio.sleep(TICK_S)
    return moves


def killing(pids: Callable[[], dict[str, int]], within_s: float) -> Meanwhile:
    """`kill -9` of the host that holds most of them."""

    async def kill(people: list[Person]) -> list[float]:
        (home, _), *_ = Counter(person.host for person in people).most_common()
        os.kill((await asyncio.to_thread(pids))[home], signal.SIGKILL)
        return await left(people, {home}, within_s)

    return kill


def emptying(drain: Callable[[str], Awaitable[None]], ready: Callable[[], bool], within_s: float) -> Meanwhile:
    """Every host in turn is emptied; the next once another one has taken its place: `ready`."""

    async def empty(people: list[Person]) -> list[float]:
        moves: list[float] = []
        for home in sorted({person.host for person in people}):
            await drain(home)
            moves += await left(people, {home}, within_s)
            async with asyncio.timeout(within_s):
                while not await asyncio.to_thread(ready):  # noqa: ASYNC110
                    await asyncio.sleep(TICK_S)
        return moves

    return empty


def replacing(replace: Callable[[], Awaitable[None]], within_s: float) -> Meanwhile:
    """A front with another pipeline file takes the place of the one there is, and new hosts that of the old ones."""

    async def instead(people: list[Person]) -> list[float]:
        homes = {person.host for person in people}
        await replace()
        return await left(people, homes, within_s)

    return instead


async def drained(server: Signalling, name: str) -> None:
    """Ask a front to empty a host. Raises TalkError."""
    status, found = await server.ask("POST", f"/hosts/{name}/drain")
    if status != 200:
        raise TalkError("refused", f"the server does not empty {name}: {found}")
