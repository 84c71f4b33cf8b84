"""A node's end of a lease: one TLS connection to a lender, from being opened to being lost.

    CONNECTING  →  OPENING  →  READY  →  over
    TLS, names     the stage    beats, packets, probes

Beats are sent every `beat_ns`, also during other work, and each that comes back shows that both directions of the link
and the worker are alive: a link that works in one direction only counts as lost. What ends a lease is told once, by
`run` returning why.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Mapping
from typing import Any, Protocol

from thalweg.deploy.fleet import certificates as certs
from thalweg.deploy.fleet.placing.lenders import Lender, NodeFolder
from thalweg.deploy.runtime.tasks import beside
from thalweg.pipeline.decoding import shown
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.fleet.moving.gauges import Away
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.text import printable
from thalweg.transports.codec import decode, encode
from thalweg.transports.fleet.lease import LARGEST, VERSION, LeaseError, frame, next_frame

CONNECT_S, OPEN_S = 5.0, 120.0
LARGEST_RECORD = LARGEST - 4096
BUFFERED = 8 << 20


class Borrower(Protocol):
    """Who has a lease, and hears of it. On the loop."""

    def opened(self, lease: Lease) -> None:
        """The stage is open there."""
        ...

    def beat(self, lease: Lease) -> None:
        """It lives."""
        ...

    def part(self, lease: Lease, generation: int, number: int, results: Any) -> None:
        """Something has come of a packet that is being processed there."""
        ...

    def answered(self, lease: Lease, generation: int, number: int, results: Any, state: bytes | None, why: str) -> None:
        """A packet was processed there."""
        ...

    def signalled(self, lease: Lease, written: bytes, direction: str) -> None:
        """The stage there has raised a signal."""
        ...

    def reported(self, lease: Lease, problem: str) -> None:
        """The stage there has said something of the packet in hand."""
        ...


class Lease:
    """One lease. The borrower awaits `run` in a task of its own. Calls that send do nothing except in READY."""

    def __init__(
        self,
        lender: Lender,
        borrower: Borrower,
        place: str,
        use: str,
        settings: Mapping[str, Any],
        *,
        stateful: bool,
        beat_s: float,
    ) -> None:
        self.lender = lender
        self.place = place
        self.gauge = Away()
        self.took_ns = self.link_ns = 0  # the packet that was answered last: there, and on the way
        self.ready = False
        self.probing = False
        self._borrower = borrower
        self._asked = (use, dict(settings), stateful)
        self._beat_s = beat_s
        self._writer: asyncio.StreamWriter | None = None
        self._pings: dict[int, int] = {}
        self._sent: dict[int, tuple[int, int]] = {}
        self._part_ns = 0
        self._probe: tuple[int, int] | None = None
        self._number = 0
        self._ended = ""

    async def run(self, folder: NodeFolder) -> str:
        """Until it is over; why it is."""
        try:
            reader = await self._connect(folder)
            await self._open(reader)
            self.ready = True
            self._borrower.opened(self)
            async with beside(self._ping()):
                while True:
                    self._hear(await next_frame(reader))
        except (asyncio.IncompleteReadError, OSError, TimeoutError, LeaseError) as error:
            self._ended = self._ended or _reason(error)
        finally:
            self.ready = False
            self._hang_up()
        return printable(f"{self.lender}: {self._ended or 'it was given back'}", 300)

    def end(self, why: str = "it was given back") -> None:
        """It is not wanted any more, or not believed. Idempotent."""
        self._ended = self._ended or why
        self.ready = False
        self._hang_up()

    def silent_ns(self, now_ns: int) -> int:
        """For how long nothing has come of the packet that was given first, of those that are not answered."""
        return now_ns - max(self._part_ns, next(iter(self._sent.values()))[0]) if self._sent else 0

    def begin(self, generation: int, state: bytes | None) -> None:
        """From now on packets are of this generation, and the stage there goes on from this state."""
        self._sent.clear()
        self._send("begin", generation, state)

    def packet(self, generation: int, number: int, record: bytes) -> None:
        """Process this."""
        self._sent[number] = time.monotonic_ns(), len(record)
        self._send("packet", generation, number, record)

    def probe(self, record: bytes) -> None:
        """Process this, so that it is known how long that takes."""
        self.probing = True
        self._probe = time.monotonic_ns(), len(record)
        self._send("probe", self._number, record)

    def signal(self, written: bytes) -> None:
        """Let the stage there hear a signal."""
        self._send("signal", written)

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Let the stage there take settings."""
        self._send("configure", dict(settings))

    def declare(self, settings: Mapping[str, Any]) -> None:
        """Let the stage there take settings from the next sample on."""
        self._send("declare", dict(settings))

    async def _connect(self, folder: NodeFolder) -> asyncio.StreamReader:
        async with asyncio.timeout(CONNECT_S):
            reader, self._writer = await asyncio.open_connection(
                self.lender.host, self.lender.port, ssl=folder.context(), server_hostname=certs.LENDER_NAME
            )
        shown_to_us = self._writer.get_extra_info("peercert")
        name, kind = certs.names_of(shown_to_us["subject"])
        if (name, kind) != (self.lender.name, certs.LENDER):
            raise LeaseError(f"it shows a {kind} certificate of {shown(name)}")
        if ssl.cert_time_to_seconds(str(shown_to_us["notAfter"])) < folder.floor_s():
            raise LeaseError("its certificate ended before a time that is known to be past")
        return reader

    async def _open(self, reader: asyncio.StreamReader) -> None:
        """Ask for the stage, and renew the lease while it opens."""
        self._send_now("lease", VERSION, *self._asked)
        async with asyncio.timeout(OPEN_S), beside(self._ping()):
            while True:
                match await next_frame(reader):
                    case ("open", float() | int()):
                        self._pings.clear()
                        return
                    case ("report" | "signal", *_):  # the stage here has said the same as it opened
                        continue
                    case ("refused", str() as why):
                        raise LeaseError(f"refused: {why}")
                    case other:
                        raise LeaseError(f"it answered {shown(other[0])}")

    async def _ping(self) -> None:
        while True:
            self._pinged()
            await asyncio.sleep(self._beat_s)

    def _pinged(self) -> None:
        self._number += 1
        self._pings[self._number] = time.monotonic_ns()
        while len(self._pings) > 100:
            del self._pings[next(iter(self._pings))]
        self._send_now("ping", self._number)

    def _hear(self, said: tuple[Any, ...]) -> None:
        now_ns = time.monotonic_ns()
        match said:
            case ("pong", int() as number):
                if (sent_ns := self._pings.pop(number, None)) is not None:
                    self.gauge.beat(now_ns - sent_ns)
                    self._borrower.beat(self)
            case ("part", int() as generation, int() as number, tuple() as results):
                self._part_ns = now_ns
                self._borrower.part(self, generation, number, results)
            case (
                "answer",
                int() as generation,
                int() as number,
                tuple() as results,
                int() as took_ns,
                state,
                str(why),
            ):
                if (sent := self._sent.pop(number, None)) is not None:
                    self.gauge.answered(now_ns - sent[0], took_ns, sent[1])
                    self.took_ns, self.link_ns = took_ns, max(0, now_ns - sent[0] - took_ns)
                self._borrower.answered(self, generation, number, results, state, why)
            case ("probed", int(), int() as took_ns):
                self.probing = False
                if self._probe is not None:
                    self.gauge.answered(now_ns - self._probe[0], took_ns, self._probe[1])
                    self._probe = None
            case ("signal", bytes() as written, str() as direction):
                self._borrower.signalled(self, written, direction)
            case ("report", str() as problem):
                self._borrower.reported(self, problem)
            case ("failed", int(), str() as why):
                raise LeaseError(f"the stage could not go on there: {why}")
            case _:
                raise LeaseError(f"it said {shown(said[0])}, which a node does not know")

    def _send(self, *parts: Any) -> None:
        if self.ready:
            self._send_now(*parts)

    def _send_now(self, *parts: Any) -> None:
        writer = self._writer
        if writer is None or writer.transport.is_closing():
            return
        if writer.transport.get_write_buffer_size() > BUFFERED:
            self.end("the link takes nothing any more")
            return
        writer.write(frame(*parts))

    def _hang_up(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()


def results_of(records: Any) -> tuple[list[Packet], str]:
    """The results in a part or an answer, up to one that cannot be read, and what is wrong with that."""
    found: list[Packet] = []
    try:
        for record in records:
            found.append(decode(record))
    except ThalwegError as error:
        return found, str(error)
    return found, ""


def _reason(error: BaseException) -> str:
    if isinstance(error, asyncio.IncompleteReadError):
        return "the connection was closed"
    return getattr(error, "verify_message", "") or getattr(error, "strerror", "") or str(error) or "no answer in time"


def record_of(packet: Packet) -> bytes:
    """A packet as it is sent to a lent worker. Raises ThalwegError on what cannot be sent."""
    record = b"".join(encode(packet))
    if len(record) > LARGEST_RECORD:
        raise LeaseError(
            f"a packet of {len(record) / 1e6:.0f} MB is too large for a lent worker, "
            f"at most {LARGEST_RECORD / 1e6:.0f} MB"
        )
    return record
