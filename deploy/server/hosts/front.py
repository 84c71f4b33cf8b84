"""Conversations on hosts: where a newcomer is sent to, and where a conversation goes on whose host is gone.

a visitor comes                                is answered by
with no conversation                           the first host that takes them, in the order of `placing.py`; busy, where
                                               none does
back, and their host is there                  that host
back, and their host is being emptied          another host, with a snapshot of now; that host, where no other has room
back, and their host is lost                   another host, with the last snapshot; 404 without the right key, or once
                                               `resume_s` passed
with an id that no host knows                  404

Media goes straight between the person and the host: an offer and its answer pass here unchanged. An id opens nothing;
that a key is right is decided by the host that has the conversation, or, where it is lost, by the digest that it told.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from thalweg.deploy.door.refused import CONNECTING, Refused
from thalweg.deploy.server.admission import NOTHING, full, too_many
from thalweg.deploy.server.conversations import draining, gone
from thalweg.deploy.server.hosts.kept import KeptConversation, KeptConversations
from thalweg.deploy.server.hosts.link import HostLink, HostLost, LinkState
from thalweg.deploy.server.hosts.news import LOADING, News
from thalweg.deploy.server.hosts.placing import Room, hosts_wanted, order, taken_of
from thalweg.deploy.server.hosts.private_server import MOVING
from thalweg.deploy.server.hosts.record import HostRecord
from thalweg.deploy.server.hosts.shrinking import Shrinking
from thalweg.deploy.server.hosts.zones import zone_at
from thalweg.deploy.server.observing.exposition import TEXT, merged
from thalweg.deploy.server.one_at_a_time import OneAtATime
from thalweg.deploy.server.service import Connected, ConnectRequest
from thalweg.deploy.server.session import SessionState
from thalweg.deploy.server.settings import ServerSettings
from thalweg.deploy.server.snapshot import host_of
from thalweg.pipeline.file.spec import Spec

log = logging.getLogger(__name__)

TICK_S = 0.5
GONE_S = 30.0
ANSWER_S = 5.0
EMPTY_S = 2.0
MARGIN_S = 15.0


class Front:
    """Runs until cancelled. `pipeline`: digest of what newcomers are to talk to. `links`: hosts by name.

    `missing`: hosts that could not be started, and why. `drained_end`: a host that the operator has emptied ends, and
    another takes its place; otherwise it stays empty.
    """

    def __init__(self, spec: Spec, settings: ServerSettings, pipeline: str) -> None:
        self.spec = spec
        self.settings = settings
        self.counts: Counter[str] = Counter()
        self.links: dict[str, HostLink] = {}
        self.draining = False
        self.drained_end = True
        self.changed = asyncio.Event()
        self.kept = KeptConversations(settings.resume_s)
        self._pipeline = pipeline
        self.missing: dict[str, str] = {}
        self._shrinking = Shrinking(settings.shrink_s)
        self._pending: Counter[str] = Counter()
        self._offers = OneAtATime()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._lost_s: dict[str, float] = {}
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Follow the hosts. Cancel it to let go of them; they talk on."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                for link in self.links.values():
                    self._follow(link)
                while True:
                    await asyncio.sleep(TICK_S)
                    self._look()
                    await self._shrink()
            finally:
                self._group = None

    def add(self, record: HostRecord) -> None:
        """There is a host, or it is reached in another way than before."""
        if (known := self.links.get(record.name)) is not None:
            if known.record == record:
                return
            self.remove(record.name)
        link = self.links[record.name] = HostLink(record, self._pipeline, self._news)
        link.changed = lambda: self._changed(link)
        if self._group is not None:
            self._follow(link)

    def remove(self, name: str) -> None:
        """A host will not come back."""
        if (task := self._tasks.pop(name, None)) is not None:
            task.cancel()
        if self.links.pop(name, None) is not None:
            self._lost_s.pop(name, None)
            self.kept.lost(name, time.monotonic())
            self.changed.set()

    @property
    def not_ready(self) -> str:
        """See `ConversationService.not_ready`."""
        if self.draining:
            return "draining"
        if any(link.takes and not link.told.not_ready for link in self.links.values()):
            return ""
        reasons = {link.told.not_ready for link in self.links.values() if link.takes}
        if not reasons:
            return "no conversation host is there"
        return LOADING if LOADING in reasons else "the pipeline cannot be started"  # why is the operator's to know

    async def connect(self, coming: ConnectRequest) -> Connected:
        """See `ConversationService.connect`."""
        if not coming.session:
            return await self._newcomer(coming)
        async with self._offers.alone(self.kept.now_at(coming.session)):  # two must not put it on two hosts
            session = self.kept.now_at(coming.session)
            return await self._back(replace(coming, session=session))

    async def trickle(self, session: str, key: str, fragment: str) -> None:
        """See `ConversationService.trickle`."""
        await self._at_home("/trickle", session, key, fragment=fragment)

    async def end(self, session: str, key: str) -> None:
        """See `ConversationService.end`. Of one whose host is lost, what was said is forgotten."""
        now_at = self.kept.now_at(session)
        kept = self.kept.find(now_at)
        if kept is not None and kept.lost_s is not None and kept.opens(key):
            self.kept.forget(now_at)
            return
        await self._at_home("/end", session, key)

    async def stands(self, session: str, key: str) -> bool:
        """See `ConversationService.stands`."""
        now_at = self.kept.now_at(session)
        kept = self.kept.find(now_at)
        if kept is None or not kept.opens(key):
            raise gone()
        return kept.lost_s is None and now_at == session and kept.state != SessionState.AWAY.value

    async def sessions(self) -> list[dict[str, Any]]:
        """See `ConversationService.sessions`; each with its `host`."""
        found = await self._ask_all("/sessions")
        return [
            dict(one) | {"host": name}
            for name, answer in found.items()
            for one in answer.get("sessions", [])
            if isinstance(one, dict)
        ]

    async def metrics(self, accept: str) -> tuple[bytes, str]:
        """See `ConversationService.metrics`, always as text: all hosts with the label `host`, and this front."""
        found = await self._ask_all("/metrics")
        texts = {name: str(answer.get("text", "")) for name, answer in found.items()}
        up = {name: link.state is LinkState.UP for name, link in self.links.items()}
        return merged(texts, self.counts, up, taken_of(self._rooms())).encode(), TEXT

    async def hosts(self) -> list[dict[str, Any]]:
        """See `ConversationService.hosts`."""
        missing = {name: why for name, why in self.missing.items() if name not in self.links}
        return [link.described(self.kept.states(link.name)) for link in self.links.values()] + [
            {"name": name, "state": "failed", "why": why} for name, why in sorted(missing.items())
        ]

    async def drain_host(self, name: str) -> Mapping[str, Any]:
        """See `ConversationService.drain_host`."""
        if (link := self.links.get(name)) is None:
            known = ", ".join(sorted(self.links)) or "none"
            raise Refused(404, "no-host", f"There is no conversation host of that name; there are: {known}.")
        try:
            return await link.ask("/drain", {"ends": self.drained_end}, within_s=ANSWER_S)
        except HostLost:
            raise Refused(503, "host", "That host does not answer.") from None

    async def empty_others(self) -> None:
        """Have hosts of another pipeline file emptied, once there are others to go to and its fronts are gone.

        Each is asked until it has heard of it.
        """
        if self.not_ready:
            return
        for link in list(self.links.values()):
            if link.record.pipeline == self._pipeline or link.state is not LinkState.REFUSED or link.emptied:
                continue
            with contextlib.suppress(HostLost, Refused):
                await link.ask("/drain", {"ends": True, "instead": True}, within_s=EMPTY_S)
                link.emptied = True
                log.info("conversation host %s serves something else, and is emptied", link.name)

    async def _newcomer(self, coming: ConnectRequest) -> Connected:
        if self.draining:
            raise draining()
        mine = self.kept.by_address()[coming.address] + self._pending[coming.address]
        mine += sum(link.pending_from(coming.address) for link in self.links.values())
        if mine >= self.settings.per_address:
            raise too_many(mine)
        self._pending[coming.address] += 1
        try:
            found = await self._place(coming, {})
        finally:
            self._pending[coming.address] -= 1
            if not self._pending[coming.address]:
                del self._pending[coming.address]
        self.counts["sessions"] += 1
        return found

    async def _place(self, coming: ConnectRequest, more: Mapping[str, Any], *, but: str = "") -> Connected:
        """The first host that takes them. Raises Refused: as the last one said, or that there is none."""
        said: Refused | None = None
        near = zone_at(coming.address, self.settings.zones, self.settings.zone)
        for name in order(self._rooms(but, near)):
            link = self.links.get(name)
            if link is None or not link.takes:
                continue
            link.asked += 1
            try:
                found = await self._offer(link, coming, more)
                said_of = {"event": "placed", "session": found.session, "host": name}
                log.info("session %s is on host %s", found.session, name, extra={"fields": said_of})
                if self.kept.find(found.session) is None:
                    link.took(found.session, coming.address)
                return found
            except HostLost as lost:
                log.warning("%s", lost)
            except Refused as refused:
                if refused.status != 503 and refused.code != NOTHING:  # of one host, which may be out of their reach
                    raise
                said = refused
            finally:
                link.asked -= 1
        self.counts["refused_everywhere"] += 1
        if said is not None and said.code in ("no-pipeline", NOTHING, CONNECTING):
            raise said
        raise full()

    async def _back(self, coming: ConnectRequest) -> Connected:
        kept = self.kept.find(coming.session)
        link = self.links.get(kept.host if kept is not None else host_of(coming.session))
        if link is not None and link.state in (LinkState.UP, LinkState.REFUSED):
            try:
                return await self._stay_or_move(link, coming)
            except HostLost as lost:
                log.warning("%s", lost)
            except Refused as refused:
                if refused.status != 404 or kept is None or kept.lost_s is None:
                    raise
        if kept is None or kept.snapshot is None or not kept.opens(coming.key) or coming.listening:
            raise gone()
        return await self._go_on(kept, kept.snapshot, coming)

    async def _stay_or_move(self, link: HostLink, coming: ConnectRequest) -> Connected:
        """At their own host, or at another where that one is being emptied. Raises Refused, HostLost."""
        try:
            return await self._offer(link, coming, {"stay": coming.listening})
        except Refused as refused:
            if refused.code != MOVING:
                raise
        return await self._move(link, coming) or await self._offer(link, coming, {"stay": True})

    async def _move(self, link: HostLink, coming: ConnectRequest) -> Connected | None:
        """Put a conversation on another host while its own is there; None where no other has room. Raises Refused."""
        asked = {"session": coming.session, "key": coming.key}
        kept = self.kept.find(coming.session)
        found: Connected | None = None
        try:
            snapshot = (await link.ask("/snapshot", asked, within_s=ANSWER_S)).get("snapshot")
            found = await self._place(coming, {"snapshot": snapshot, "was": coming.session}, but=link.name)
        except HostLost:
            return None
        except Refused as refused:
            if refused.status == 503:
                return None
            raise
        finally:
            if self._group is not None:  # the answer does not wait for it
                self._group.create_task((link.stays if found is None else link.moved)(coming.session, coming.key))
        self._led(coming, found, kept)
        self.counts["moved"] += 1
        return found

    async def _go_on(self, kept: KeptConversation, snapshot: Mapping[str, Any], coming: ConnectRequest) -> Connected:
        """Put a conversation on another host, its own being lost. Raises Refused."""
        found = await self._place(coming, {"snapshot": dict(snapshot), "was": coming.session})
        self._led(coming, found, kept)
        self.counts["resumed_elsewhere"] += 1
        return found

    def _led(self, coming: ConnectRequest, found: Connected, kept: KeptConversation | None) -> None:
        """The old id leads to the new one from now on; its new host will say so, too, in its next news."""
        self.kept.moved(coming.session, found.session)
        host = kept.host if kept else "?"
        said = {"event": "moved", "session": found.session, "was": coming.session}
        log.info("a conversation moved from host %s to %s", host, host_of(found.session), extra={"fields": said})

    async def _offer(self, link: HostLink, coming: ConnectRequest, more: Mapping[str, Any]) -> Connected:
        body = {
            "sdp": coming.sdp,
            "address": coming.address,
            "session": coming.session,
            "key": coming.key,
            "listening": coming.listening,
        }
        within_s = self.settings.connect_s + MARGIN_S
        found = await link.ask("/connect", body | dict(more), within_s=within_s)
        session, key, sdp, notes = (found.get(name) for name in ("session", "key", "sdp", "notes"))
        if not (isinstance(session, str) and isinstance(key, str) and isinstance(sdp, str)):
            raise HostLost(f"conversation host {link.name} answers an offer with what is no answer")
        told = tuple(str(note) for note in notes) if isinstance(notes, list) else ()
        return Connected(session=session, key=key, sdp=sdp, notes=told)

    async def _at_home(self, path: str, session: str, key: str, **more: str) -> None:
        session = self.kept.now_at(session)
        kept = self.kept.find(session)
        link = self.links.get(kept.host if kept is not None else host_of(session))
        if link is None:
            raise gone()
        try:
            await link.ask(path, {"session": session, "key": key, **more}, within_s=ANSWER_S)
        except HostLost:
            raise Refused(503, "host", "The machine of that conversation does not answer. Connect anew.") from None

    async def _ask_all(self, path: str) -> dict[str, dict[str, Any]]:
        """Host → answer, of those that give one."""
        reached = [link for link in self.links.values() if link.state in (LinkState.UP, LinkState.REFUSED)]
        answers = await asyncio.gather(
            *(link.ask(path, {}, within_s=ANSWER_S) for link in reached), return_exceptions=True
        )
        return {link.name: answer for link, answer in zip(reached, answers, strict=True) if isinstance(answer, dict)}

    @property
    def wanted(self) -> int:
        """How many hosts there should be."""
        return hosts_wanted(self._rooms())

    def _rooms(self, but: str = "", near: str = "") -> list[Room]:
        return [
            Room(
                name=link.name,
                ready=not link.told.not_ready,
                held=link.told.held,
                pending=link.pending,
                limit=link.told.limit,
                busy=link.told.busy,
                shared_full=link.told.shared_full,
                far=near not in ("", link.record.zone),
            )
            for link in self.links.values()
            if link.takes and link.name != but
        ]

    def _follow(self, link: HostLink) -> None:
        assert self._group is not None
        self._tasks[link.name] = self._group.create_task(link.run())

    def _news(self, link: HostLink, news: News) -> None:
        self.kept.news(link.name, news, time.monotonic())
        self.kept.back(link.name, news.boot)

    def _changed(self, link: HostLink) -> None:
        if link.state is LinkState.LOST:
            if link.name not in self._lost_s:
                self._lost_s[link.name] = time.monotonic()
                self.kept.lost(link.name, self._lost_s[link.name])
        else:
            self._lost_s.pop(link.name, None)
        self.changed.set()

    async def _shrink(self) -> None:
        """Have a host end that is not needed, where hosts do so."""
        name = self._shrinking.look(self._rooms(), time.monotonic())
        if name is None:
            return
        link = self.links[name]
        with contextlib.suppress(HostLost, Refused):
            await link.ask("/drain", {"ends": True}, within_s=EMPTY_S)
            link.ending = True
            log.info("conversation host %s is not needed any more, and ends", name)

    def _look(self) -> None:
        now_s = time.monotonic()
        self.kept.passed(now_s)
        for name, since_s in list(self._lost_s.items()):
            if now_s - since_s > max(GONE_S, self.settings.resume_s):
                self.remove(name)
