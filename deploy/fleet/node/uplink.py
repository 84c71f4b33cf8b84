"""The way up: some threads, each with a connection of its own, so that none waits behind another.

    live      events and telemetry that were stored just now, newest first, as soon as they are there; in two threads,
              so that what is made while one waits for an answer does not wait for that, too
    media     likewise media, in two threads, so that the link is not idle while one waits for an answer
    backlog   what the hub does not have yet, oldest first
    report    how this node is, every few seconds; what the hub wants and has comes back
    commands  waits at the hub for commands to the vehicle, on nodes that take any

The pieces of media leave at a pace near what the link takes of it (`pipeline.fleet.pacer`), so what is live finds the
link free between two of them. Batches of media and of the backlog are as large as the link takes in two of its round
trips, a quarter second at most: so what is in the link's queue is about a round trip's worth, and what is live does not
wait longer. What that leaves for media is found out by `pipeline.fleet.media_budget`, and told to stages that ask.

A hub that is away is asked again later and later, a minute at most; meanwhile everything stays in the spool. Once a
report arrives, the other lanes wait no longer. A working certificate that ended meanwhile is renewed when reports keep
failing. Nothing here ever stops a pipeline, and a lane goes on after any failure.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from statistics import median_low
from typing import Any

from thalweg.deploy.fleet.errors import FleetError
from thalweg.deploy.fleet.node.asking import HubClient, HubRefused
from thalweg.deploy.fleet.node.commands import Commands
from thalweg.deploy.fleet.node.identity import Identity
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.fleet.backoff import pause_s
from thalweg.pipeline.fleet.batches import BatchSize
from thalweg.pipeline.fleet.media_budget import MediaBudget
from thalweg.pipeline.fleet.pacer import Pacer
from thalweg.pipeline.fleet.received import Received
from thalweg.pipeline.fleet.spool_policy import SpoolClass
from thalweg.pipeline.observing.histogram import Histogram
from thalweg.stages.fleet.agent_link import machine_ns
from thalweg.transports.fleet.segment import records
from thalweg.transports.fleet.spool import Spool

log = logging.getLogger(__name__)

LIVE_BYTES = 64 << 10
REPORT_S = 5.0
LOOK_S = 1.0
MEDIA_LANES, LIVE_LANES = ("media-1", "media-2"), ("live-1", "live-2")
NOT_MEDIA = (SpoolClass.EVENTS, SpoolClass.TELEMETRY)
BACKLOG_REST = 4.0
"""How much longer than its last batch took the backlog rests while media is live."""
QUARTER_NS, LEAST_TARGET_NS, TRIPS, RECENT = 250_000_000, 60_000_000, 300, 7
RENEW_EVERY = 3
"""Failed reports until another certificate is asked for: an expired one looks like a hub that cannot be reached."""
LIVE_PAUSE_S, BACKLOG_PAUSE_S = 0.02, 0.01
"""Between requests: what comes meanwhile goes in one, and the hub's door refuses who asks too often."""


class Uplink:
    """`state`: gives what is reported. `wanted`: told of the generation the hub wants. To be stopped in the end."""

    def __init__(
        self,
        identity: Identity,
        spool: Spool,
        state: Callable[[], dict[str, Any]],
        wanted: Callable[[int], None],
        *,
        report_s: float = REPORT_S,
        commands: Commands | None = None,
        log_lines: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        self._log_lines = log_lines
        self._looked_at = False
        self._acknowledged = 0
        self._commands = commands
        self._identity = identity
        self._spool = spool
        self._state = state
        self._wanted = wanted
        self._report_s = report_s
        self._news = {lane: threading.Event() for lane in LIVE_LANES}
        self._hurry = threading.Event()
        self._stopping = threading.Event()
        self._batches = BatchSize()
        self._media_news = {lane: threading.Event() for lane in MEDIA_LANES}
        self._media = {lane: BatchSize(least=1 << 10, most=64 << 10) for lane in MEDIA_LANES}
        self._trips: deque[int] = deque(maxlen=TRIPS)
        self._budget = MediaBudget()
        self._pacer = Pacer()
        self._budgeting = threading.Lock()
        self._fresh = Histogram()
        self._noting = threading.Lock()
        self.problem = ""
        lanes: dict[str, Callable[[HubClient], None]] = {"backlog": self._backlog, "report": self._report}
        lanes |= {lane: partial(self._live, lane) for lane in LIVE_LANES}
        lanes |= {lane: partial(self._send_media, lane) for lane in MEDIA_LANES}
        if commands is not None and commands.allowed:
            lanes["commands"] = self._wait_for_command
        self._back = {name: threading.Event() for name in lanes}
        self._threads = [threading.Thread(target=self._keep, args=lane, name=lane[0]) for lane in lanes.items()]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.daemon = True
            thread.start()

    def stop(self) -> None:
        """End; a request under way has two seconds."""
        self._stopping.set()
        self.stored()
        self._hurry.set()
        self._wake()
        for thread in self._threads:
            thread.join(2.0)

    def stored(self) -> None:
        """There is something new in the spool."""
        for news in (*self._news.values(), *self._media_news.values()):
            news.set()

    def media_bps(self) -> int:
        """The most that senders of media may produce, bit/s."""
        trips = list(self._trips)
        queued_ns = sorted(trips[-RECENT:])[len(trips[-RECENT:]) // 4] - min(trips) if trips else 0
        waiting = self._spool.waiting_live(SpoolClass.MEDIA)
        with self._budgeting:
            bps = self._budget.look(time.monotonic_ns(), waiting, queued_ns)
            self._pacer.follow(bps, queued_ns)
            return bps

    def report_soon(self) -> None:
        """Something has happened that the hub wants to know."""
        self._hurry.set()

    def _keep(self, name: str, lane: Callable[[HubClient], None]) -> None:
        failures, in_doubt = 0, False
        while not self._stopping.is_set():
            try:
                if in_doubt and name == "report" and failures % RENEW_EVERY == 0:
                    self._identity.renew()
                with self._identity.client() as client:
                    while not self._stopping.is_set():
                        lane(client)
                        failures = 0
            except (ThalwegError, OSError) as error:
                in_doubt = not isinstance(error, HubRefused) or error.status == 403
                if name == "report" and str(error) != self.problem:
                    self.problem = str(error)
                    log.warning("%s", error)
            except Exception:  # a mistake of ours, or an answer that no hub gives: without the lane nothing would go up
                in_doubt = False
                log.exception("the %s lane failed; it is tried again", name)
            self._spool.rewind()
            failures += 1
            self._back[name].wait(pause_s(failures))
            self._back[name].clear()

    def _wake(self) -> None:
        for waiting in self._back.values():
            waiting.set()

    def _live(self, lane: str, client: HubClient) -> None:
        frames = self._spool.newest(LIVE_BYTES, NOT_MEDIA, lane)
        if frames:
            began_ns = time.monotonic_ns()
            self._send(client, frames)
            self._trips.append(time.monotonic_ns() - began_ns)
            self._note_age(frames)
            self._stopping.wait(LIVE_PAUSE_S)
            return
        self._news[lane].wait(60.0)
        self._news[lane].clear()

    def _note_age(self, frames: list[bytes]) -> None:
        now_ns = time.time_ns()
        with self._noting:
            for found in records(b"".join(frames)):
                if found.stored.time_ns:  # the node's own notes have none
                    self._fresh.record(now_ns - found.stored.time_ns)

    def _send_media(self, lane: str, client: HubClient) -> None:
        batch = self._media[lane]
        client.pace = self._pace
        batch.target_ns = self._target_ns()
        frames = self._spool.newest(batch.size, (SpoolClass.MEDIA,), lane)
        if not frames:
            self._media_news[lane].wait(60.0)
            self._media_news[lane].clear()
            return
        self._timed(client, frames, batch)
        with self._budgeting:
            self._budget.arrived(sum(map(len, frames)))
        self.media_bps()

    def _pace(self, left: int) -> int:
        """How much of a body may be sent now, at most what is left of it; waits until then."""
        with self._budgeting:
            size = min(left, self._pacer.piece)
            wait_ns = self._pacer.wait_ns(size, time.monotonic_ns())
        if wait_ns > 0:
            self._stopping.wait(wait_ns / 1e9)
        return size

    def _target_ns(self) -> int:
        """How long a batch may be under way: two round trips of something small, as they were of late."""
        trip_ns = min(self._trips, default=QUARTER_NS // 2)
        return max(LEAST_TARGET_NS, min(QUARTER_NS, 2 * trip_ns))

    def _timed(self, client: HubClient, frames: list[bytes], batch: BatchSize) -> None:
        began_ns = time.monotonic_ns()
        try:
            self._send(client, frames)
        except (ThalwegError, OSError):
            batch.failed()
            raise
        batch.took(sum(map(len, frames)), time.monotonic_ns() - began_ns)

    def _backlog(self, client: HubClient) -> None:
        self._batches.target_ns = self._target_ns()
        frames = self._spool.oldest(self._batches.size)
        if frames:
            began_s = time.monotonic()
            self._timed(client, frames, self._batches)
            busy = self._spool.waiting_live(SpoolClass.MEDIA) > 0
            self._stopping.wait(BACKLOG_REST * (time.monotonic() - began_s) if busy else BACKLOG_PAUSE_S)
        else:
            self._stopping.wait(LOOK_S)

    def _send(self, client: HubClient, frames: list[bytes]) -> None:
        body = b"".join(frames)
        self._take_marks(client.call("/v1/records", body))
        self._acknowledged += len(body)

    def _report(self, client: HubClient) -> None:
        self._hurry.clear()
        streams = [[boot, stream, floor] for (boot, stream), floor in self._spool.streams().items()]
        with self._noting:
            fresh, self._fresh = self._fresh, Histogram()
        lag = {"count": fresh.count, "p95_ms": fresh.quantile(0.95) / 1e6}
        sent_ns = machine_ns()
        said = {**self._state(), "streams": streams, "live": lag, "link": self._link()}
        if self._looked_at:
            said["log"] = self._log_lines()
        answer = client.call("/v1/report", said)
        self._looked_at = answer.get("log") is True
        self._take_marks(answer)
        now_s = float(answer["time"])
        if self.problem:
            self.problem = ""
            self._wake()
        self._wanted(int(answer["desired"]))
        self._identity.lenders_are(answer.get("lenders"))
        self._identity.heard(now_s)
        if self._commands is not None:
            self._commands.heard(sent_ns, now_s)
        if self._identity.renewal_due(now_s):
            try:
                self._identity.renew()
            except OSError as error:  # the disk: the one in use is good for a while
                self._identity.disk.failed(error.strerror or str(error))
            client.close()
        self._hurry.wait(self._report_s)

    def _link(self) -> dict[str, int]:
        """Bytes that the hub has acknowledged so far, and how long that of something small takes, ms, as of late."""
        trips = list(self._trips)[-RECENT:]
        return {"bytes": self._acknowledged, **({"trip_ms": median_low(trips) // 1_000_000} if trips else {})}

    def _wait_for_command(self, client: HubClient) -> None:
        assert self._commands is not None
        answer = client.call("/v1/commands", {})
        if isinstance(answer, dict) and isinstance(found := answer.get("command"), bytes):
            self._commands.take(found)

    def _take_marks(self, answer: Any) -> None:
        try:
            for boot, stream, plain in answer["marks"]:
                self._spool.settle(boot, stream, Received.from_plain(plain))
        except (TypeError, ValueError, KeyError):
            raise FleetError("the hub answered something that is no hub's answer") from None
