"""What one connection may cost: counted where datagrams and chunks come in, below everything that could forget to.

aiortc reassembles fragments without a bound, takes every chunk and every datagram it is sent, and walks each gap that
an acknowledgement names. A peer that exceeds a limit is reported once (`expel`), and from then on nearly all that it
sends is discarded unread, so that a goodbye still reaches it.

counted in a second          most        an honest side sends
bytes of datagrams           1.25 MB     10 Mbit/s of media at the very most
datagrams                    2,000       400: sound, pictures at 2.5 Mbit/s, acknowledgements
chunks on the data channel   600         100: 50 messages, as many acknowledgements

counted in all               most        an honest side has
bytes that wait for the rest 64 kB       8 kB: one message
chunks out of order          500         tens, on a bad network
streams                      16          1
gaps in one acknowledgement  2,000       tens

What is used here of what aiortc keeps to itself, tests hold against the installed release.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiortc.rtcsctptransport import DataChunk, SackChunk

from thalweg.pipeline.clock import Clock

BYTES_PER_S = 1_250_000
DATAGRAMS_PER_S = 2_000
CHUNKS_PER_S = 600
AFTERWARDS_PER_S = 50
MAX_WAITING = 64_000
MAX_DISORDER = 500
MAX_STREAMS = 16
MAX_GAPS = 2_000


class Guard:
    """Counts what comes in on the transports of one connection; `expel` is told why it is too much, once."""

    def __init__(self, clock: Clock, expel: Callable[[str], None]) -> None:
        self.expelled = False
        self._clock = clock
        self._expel = expel
        self._second = -1
        self._bytes = self._datagrams = self._chunks = 0
        self._watched: set[int] = set()
        self._window = 0

    def watch(self, peer_connection: Any) -> None:
        """Count what comes in from now on; for once the remote description is set. Raises RuntimeError.

        That is where aiortc keeps its parts elsewhere.
        """
        transports = [transceiver.receiver.transport for transceiver in peer_connection.getTransceivers()]
        sctp = peer_connection.sctp
        if sctp is not None:
            transports.append(sctp.transport)
            if not hasattr(sctp, "_receive_chunk") or not hasattr(sctp, "_advertised_rwnd"):
                raise RuntimeError("this release of aiortc keeps its data channels elsewhere; use aiortc 1.9 to 1.16")
            self._window = sctp._advertised_rwnd
            sctp._receive_chunk = self._counted_chunk(sctp, sctp._receive_chunk)
            sctp._handle_data = self._unharmed(sctp._handle_data)
        for transport in transports:
            ice = transport.transport
            if id(ice) not in self._watched:
                if not hasattr(ice, "_recv"):
                    raise RuntimeError("this release of aiortc receives elsewhere; use aiortc 1.9 to 1.16")
                self._watched.add(id(ice))
                ice._recv = self._counted(ice._recv)

    def _counted(self, receive: Callable[[], Awaitable[bytes]]) -> Callable[[], Awaitable[bytes]]:
        async def counted() -> bytes:
            while True:
                data = await receive()
                self._next_second()
                self._bytes += len(data)
                self._datagrams += 1
                if self._bytes > BYTES_PER_S:
                    self._too_much(f"more than {BYTES_PER_S * 8 // 1_000_000} Mbit/s")
                elif self._datagrams > DATAGRAMS_PER_S:
                    self._too_much(f"more than {DATAGRAMS_PER_S} packets in a second")
                if data and (not self.expelled or self._datagrams <= AFTERWARDS_PER_S):
                    return data

        return counted

    def _counted_chunk(self, sctp: Any, receive: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
        async def counted(chunk: Any) -> None:
            self._next_second()
            self._chunks += 1
            if self._chunks > CHUNKS_PER_S:
                self._too_much(f"more than {CHUNKS_PER_S} pieces of messages in a second")
                return
            if isinstance(chunk, SackChunk) and sum(last - first + 1 for first, last in chunk.gaps) > MAX_GAPS:
                self._too_much(f"an acknowledgement with more than {MAX_GAPS} gaps")
                return
            if isinstance(chunk, DataChunk) and self.expelled:
                return
            await receive(chunk)
            if isinstance(chunk, DataChunk):
                self._measure(sctp)

        return counted

    def _measure(self, sctp: Any) -> None:
        """What a data chunk has left behind."""
        if self._window - sctp._advertised_rwnd > MAX_WAITING:
            self._too_much(f"more than {MAX_WAITING // 1000} kB of messages without an end")
        elif len(sctp._sack_misordered) > MAX_DISORDER:
            self._too_much(f"more than {MAX_DISORDER} pieces of messages out of order")
        elif len(sctp._inbound_streams) > MAX_STREAMS:
            self._too_much(f"messages on more than {MAX_STREAMS} streams")

    def _unharmed(self, handle: Callable[[bytes], Awaitable[None]]) -> Callable[[bytes], Awaitable[None]]:
        """Data that aiortc stumbles over ends this connection with a reason, and not its log with a traceback."""

        async def unharmed(data: bytes) -> None:
            try:
                await handle(data)
            except ConnectionError:
                raise
            except Exception:
                self._too_much("data that is no data channel's")

        return unharmed

    def _next_second(self) -> None:
        second = self._clock.now_ns() // 1_000_000_000
        if second != self._second:
            self._second, self._bytes, self._datagrams, self._chunks = second, 0, 0, 0

    def _too_much(self, why: str) -> None:
        if not self.expelled:
            self.expelled = True
            self._expel(why)
