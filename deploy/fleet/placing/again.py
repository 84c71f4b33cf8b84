"""What a stage sees while it processes a packet that is not the one in hand: done again, or as a probe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Payload
from thalweg.pipeline.signal import Direction, Signal


class Again:
    """The stage's context, for `packet`: what is emitted has its time, epoch and deadline unless they are given.

    `out`: the ports of results that are out already; as many of each are left out. What comes next is not known.
    """

    lent = True

    def __init__(self, ctx: Any, packet: Packet, deadline_ns: int | None, out: Iterable[str] = ()) -> None:
        self._ctx = ctx
        self._out = Counter(out)
        self._packet = packet
        self._deadline_ns = deadline_ns

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ctx, name)

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
        if self._is_out(port):
            return
        packet = self._packet
        time = packet.time if time is None else time
        if deadline is None:
            deadline = packet.deadline if self._deadline_ns is None else time + self._deadline_ns
        epoch = packet.epoch if epoch is None else epoch
        self._ctx.emit(payload, port=port, time=time, epoch=epoch, deadline=deadline)

    def pass_on(self, results: Iterable[Packet]) -> str:
        """Emit what came of the packet elsewhere, up to one that cannot be; why that is, or nothing."""
        try:
            for each in results:
                self.emit(each.payload, port=each.stream, time=each.time, epoch=each.epoch, deadline=each.deadline)
        except ThalwegError as error:
            return str(error)
        return ""

    async def send(self, payload: Payload, *, port: str | None = None, time: int, epoch: int = 0) -> None:
        """See `Context.send`."""
        if self._is_out(port):
            return
        await self._ctx.send(payload, port=port, time=time, epoch=epoch)

    def _is_out(self, port: str | None) -> bool:
        """Whether this result is one of those, which it is from then on not any more."""
        port = next(iter(self._out), "") if port is None else port  # left out only where there is one
        if not self._out[port]:
            return False
        self._out[port] -= 1
        return True


class Quiet(Again):
    """Nothing comes of it."""

    def __init__(self, ctx: Any, packet: Packet) -> None:
        super().__init__(ctx, packet, None)

    def emit(self, payload: Payload, **_: Any) -> None:
        """Nothing."""

    async def send(self, payload: Payload, **_: Any) -> None:
        """Nothing."""

    def signal(self, signal: Signal, direction: Direction = Direction.DOWN) -> None:
        """Nothing."""

    def report(self, problem: str) -> None:
        """Nothing."""
