"""What a stage on a lent worker sees of its surroundings: `pipeline.stage.Context`, as far as it reaches there.

What it emits goes back while it is still at work, as the link takes it; what is left when the packet is done goes with
the answer. What asks for more than the packet in hand, such as `peek` or a new epoch, is not there: `placing_problem`
keeps out most stages that want it, and the rest is told so. `lent` says where this is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from threading import Lock
from typing import Any

from thalweg.deploy.runtime.tasks import in_thread
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Payload
from thalweg.pipeline.signal import Direction, Signal
from thalweg.pipeline.stage import Port, StageError, only_port
from thalweg.transports.codec import encode, encode_signal

PART = 1 << 18
"""Bytes of results that go in one frame, at least one result."""


class LentContext:
    """Of one stage. `begin` and `end` bracket a packet; `ports`: what it may emit on; `stale`: its epoch is over.

    `stir` is called, in any thread, when there are results to be taken.
    """

    name = "lent"
    port = ""
    lent = True

    def __init__(self, send: Callable[..., None], thread: Executor, stir: Callable[[], None]) -> None:
        self.stale = False
        self.packet: Packet | None = None
        self.ports: Mapping[str, Port] = {}
        self.clock_ns = 0
        self._send = send
        self._thread = thread
        self._stir = stir
        self._results: list[bytes] = []
        self._lock = Lock()

    def begin(self, packet: Packet) -> None:
        """It has this packet in hand."""
        self.packet = packet
        self.stale = False

    def take(self) -> list[bytes]:
        """What has come of the packet in hand and was not taken yet: `PART` bytes of it, or one result."""
        with self._lock:
            count = size = 0
            for record in self._results:
                size += len(record)
                if count and size > PART:
                    break
                count += 1
            results, self._results = self._results[:count], self._results[count:]
        return results

    def end(self) -> list[bytes]:
        """It has done with it; what came of that and was not taken."""
        with self._lock:
            results, self._results = self._results, []
        self.packet = None
        return results

    def now_ns(self) -> int:
        """The time of this machine. Not the node's: no stage that acts by the clock is lent."""
        return time.monotonic_ns()

    def emit(
        self,
        payload: Payload,
        *,
        port: str | None = None,
        time: int | None = None,
        epoch: int | None = None,
        deadline: int | None = None,
    ) -> None:
        """See `Context.emit`."""
        packet, port = self.packet, port or only_port(self.ports)
        if packet is None:
            raise StageError("a stage on a lent worker emits only while it has a packet in hand")
        if port is None or port not in self.ports or not isinstance(payload, self.ports[port].type):
            raise StageError(f"it emitted a {type(payload).__name__} on port {port}; it has: {', '.join(self.ports)}")
        result = Packet(
            stream=port,
            seq=0,
            time=packet.time if time is None else time,
            epoch=packet.epoch if epoch is None else epoch,
            deadline=deadline,
            payload=payload,
        )
        record = b"".join(encode(result))
        with self._lock:
            self._results.append(record)
        self._stir()

    async def send(self, payload: Payload, *, port: str | None = None, time: int, epoch: int = 0) -> None:
        """See `Context.send`; there is room."""
        self.emit(payload, port=port, time=time, epoch=epoch)

    def peek(self, port: str | None = None) -> Packet | None:
        """Nothing: what comes next is not known here."""
        return None

    async def waiting(self) -> Packet:
        """Raises StageError."""
        raise StageError("what comes next is not known on a lent worker")

    async def compute(self, function: Callable[..., Any], *args: Any) -> Any:
        """See `Context.compute`."""
        return await in_thread(self._thread, function, *args)

    async def sleep_until(self, time_ns: int) -> None:
        """Raises StageError."""
        raise StageError("a lent worker does not have the node's clock")

    def wake_at(self, time_ns: int | None) -> None:
        """Raises StageError."""
        raise StageError("a lent worker does not have the node's clock")

    def signal(self, signal: Signal, direction: Direction = Direction.DOWN) -> None:
        """See `Context.signal`; it is raised by the stage's node."""
        self._send("signal", encode_signal(signal), direction.value)

    def new_epoch(self) -> int:
        """Raises StageError."""
        raise StageError("epochs are given by the node, not by a lent worker")

    def report(self, problem: str) -> None:
        """See `Context.report`."""
        self._send("report", problem[:1000])
