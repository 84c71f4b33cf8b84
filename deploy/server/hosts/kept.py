"""What a front knows of conversations: where each is, and what another host could go on with. No clock, no network.

event                                        what it does
news of a conversation                       kept, in the place of what was known; the id it had elsewhere leads to it
a host no longer has it                      forgotten: it has ended
a host is lost, or was started anew          lost since then: its last snapshot stays for `resume_s`
it was put on another host                   its old id leads to the new one, and is forgotten itself
`resume_s` after it was lost, or its end     forgotten

A key is known as its digest only. So a front can tell whether a key is the right one, and cannot say what it is.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from thalweg.deploy.door.tokens import same_secret
from thalweg.deploy.server.hosts.news import News, SessionNews, key_digest

MOST = 10_000
CHAIN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptConversation:
    """One conversation. `lost_s`: since when its host is gone; None while it is there."""

    host: str
    boot: str
    key: str
    address: str
    state: str
    snapshot: Mapping[str, Any] | None
    lost_s: float | None = None

    def opens(self, key: str) -> bool:
        """Whether this is its key."""
        return same_secret(key_digest(key), self.key)


class KeptConversations:
    """Of all hosts. Times are seconds of any one clock."""

    def __init__(self, resume_s: float) -> None:
        self._resume_s = resume_s
        self._kept: dict[str, KeptConversation] = {}
        self._led: OrderedDict[str, str] = OrderedDict()

    def now_at(self, session: str) -> str:
        """The id that a conversation has now, for one that it had."""
        for _ in range(CHAIN):
            if session not in self._led:
                break
            session = self._led[session]
        return session

    def find(self, session: str) -> KeptConversation | None:
        """What is known of a conversation, by the id that it has now."""
        return self._kept.get(session)

    def news(self, host: str, news: News, now_s: float) -> None:
        """A host has told its news."""
        there = set(news.all)
        for session, kept in list(self._kept.items()):
            if kept.host != host or session in news.changed:
                continue
            if kept.boot != news.boot:
                self._lose(session, kept, now_s)
            elif session not in there:
                del self._kept[session]
        for session, told in news.changed.items():
            self._take(host, news.boot, session, told)

    def lost(self, host: str, now_s: float) -> None:
        """A host does not answer any more."""
        for session, kept in list(self._kept.items()):
            if kept.host == host:
                self._lose(session, kept, now_s)

    def back(self, host: str, boot: str) -> None:
        """A host answers again: what it had, it has."""
        for session, kept in self._kept.items():
            if kept.host == host and kept.boot == boot and kept.lost_s is not None:
                self._kept[session] = replace(kept, lost_s=None)

    def moved(self, session: str, now_at: str) -> None:
        """A conversation was put on another host, where it has another id."""
        self._kept.pop(session, None)
        if session != now_at and self.now_at(now_at) != session:
            self._led[session] = now_at
            self._led.move_to_end(session)
            if len(self._led) > MOST:
                self._led.popitem(last=False)

    def forget(self, session: str) -> None:
        """A conversation was ended by its visitor, and no host could report it."""
        self._kept.pop(session, None)

    def passed(self, now_s: float) -> None:
        """Forget lost conversations whose visitor did not return within `resume_s`."""
        for session, kept in list(self._kept.items()):
            if kept.lost_s is not None and now_s - kept.lost_s > self._resume_s:
                del self._kept[session]

    def by_address(self) -> Counter[str]:
        """How many conversations each address has, those of lost hosts left out."""
        return Counter(kept.address for kept in self._kept.values() if kept.lost_s is None)

    def states(self, host: str) -> Counter[str]:
        """How many conversations of a host are in which state."""
        return Counter(kept.state for kept in self._kept.values() if kept.host == host and kept.lost_s is None)

    def _lose(self, session: str, kept: KeptConversation, now_s: float) -> None:
        if kept.lost_s is None:
            self._kept[session] = replace(kept, lost_s=now_s)

    def _take(self, host: str, boot: str, session: str, told: SessionNews) -> None:
        if session not in self._kept and len(self._kept) >= MOST:
            return
        self._kept[session] = KeptConversation(
            host=host, boot=boot, key=told.key, address=told.address, state=told.state, snapshot=told.snapshot
        )
        if told.was:
            self.moved(told.was, session)
