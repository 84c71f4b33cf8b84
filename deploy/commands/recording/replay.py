"""`thalweg replay`: play a recording into a pipeline file, in place of everything before.

Theory of operation. A worker hosts the stages that the recording feeds, and all behind them. To it every edge into
them looks as if it came from another worker: a recorded one from the file, any other one from a worker that has
nothing to send. The clock is set to the recording's: it shows the time at which the first packet was taken and runs
`speed` times as fast as the machine's, and so does the event loop, its timers included. At full speed nothing waits:
packets follow as they are taken, and the clock moves to the time of each.

Channels of the recording keep their order among each other. Channels into the played-into stages block in place of
their policy: what they would drop was dropped before it was recorded.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from thalweg.deploy.commands.recording.record import find_connection
from thalweg.deploy.runtime.worker import Worker
from thalweg.pipeline.channel import Channel
from thalweg.pipeline.graph import Connection, Graph, GraphError, nearest
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.signal import Signal
from thalweg.transports.codec import CodecError, decode
from thalweg.transports.link import ignore
from thalweg.transports.recording import Recorded, Recording, RecordingError

FULL_SPEED = 0.0


class ReplayClock:
    """Shows `start_ns` at first, and never less than it was moved to."""

    def __init__(self, start_ns: int, speed: float) -> None:
        self._start_ns = start_ns
        self._floor_ns = start_ns
        self._speed = speed or 1.0
        self._began_ns = time.monotonic_ns()

    def now_ns(self) -> int:
        """The time now."""
        passed_ns = time.monotonic_ns() - self._began_ns
        return max(self._floor_ns, self._start_ns + int(passed_ns * self._speed))

    def move_to(self, time_ns: int) -> None:
        """It is at least this late."""
        self._floor_ns = max(self._floor_ns, time_ns)


class _QuickSelector(selectors.DefaultSelector):
    def __init__(self, speed: float) -> None:
        super().__init__()
        self._speed = speed

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(timeout / self._speed if timeout else timeout)


class QuickLoop(asyncio.SelectorEventLoop):
    """An event loop whose seconds pass `speed` times as fast."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        super().__init__(_QuickSelector(speed))

    def time(self) -> float:
        """Its seconds."""
        return time.monotonic() * self._speed


class Playback:
    """A recording that is being played into the ends of `links`, by channel."""

    def __init__(self, recording: Recording, channels: Sequence[str], clock: ReplayClock, speed: float) -> None:
        self.links = {channel: PlaybackLink(self) for channel in channels}
        self._clock = clock
        self._paced = speed != FULL_SPEED
        self._packets: Iterator[Recorded] = iter(recording)
        self._head: Recorded | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._started = False

    def take(self, link: PlaybackLink) -> Packet | None:
        """The next packet for this link, if it is its turn and the time has come."""
        if not self._started:
            self._started = True
            self._advance()
        head = self._head
        if head is None or self.links[head.channel] is not link:
            return None
        wait_ns = head.time_ns - self._clock.now_ns() if self._paced else 0
        if wait_ns > 0:
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(wait_ns / 1e9, self._due)
            return None
        self._clock.move_to(head.time_ns)
        self._advance()
        try:
            return decode(head.record)
        except CodecError as error:  # the file was another one when it was checked
            link.on_bad(f"a packet of the recording cannot be read, and is left out: {error}")
            return self.take(link)

    def _due(self) -> None:
        self._timer = None
        if self._head is not None:
            self.links[self._head.channel].on_packet()

    def _advance(self) -> None:
        before = self._head
        try:
            self._head = next((packet for packet in self._packets if packet.channel in self.links), None)
        except RecordingError as error:
            self._head = None
            next(iter(self.links.values())).on_bad(f"the recording ends here: {error}")
        if self._head is None:
            for link in self.links.values():
                link.on_end()
        elif before is None or before.channel != self._head.channel:
            asyncio.get_running_loop().call_soon(self._due)


class PlaybackLink:
    """The receiving end of an edge whose packets are in a file; see `link.Receiver`."""

    def __init__(self, playback: Playback | None) -> None:
        self.on_packet: Callable[[], None] = ignore
        self.on_signal: Callable[[Signal], None] = ignore
        self.on_end: Callable[[], None] = ignore
        self.on_bad: Callable[[str], None] = ignore
        self.on_lost: Callable[[str], None] = ignore
        self._playback = playback
        self._ended = False

    def take(self) -> Packet | None:
        """The next packet; of an edge that was not recorded there is none, and its end follows."""
        if self._playback is not None:
            return self._playback.take(self)
        if not self._ended:
            self._ended = True
            self.on_end()
        return None

    def acknowledge(self, count: int) -> None:
        """The file stays as it is."""

    def signal(self, signal: Signal) -> None:
        """Discards the signal: there is no producer to receive it."""

    def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True, slots=True)
class Replay:
    """A worker that is ready to run, the loop for it, and what a reader should know."""

    worker: Worker
    make_loop: Callable[[], asyncio.AbstractEventLoop] | None
    notes: list[str]


def prepare_replay(recording: Recording, graph: Graph, into: Sequence[str], speed: float) -> Replay:
    """Check the recording and set everything up. Raises RecordingError, GraphError.

    `into`: `STAGE.PORT`, or `CHANNEL=STAGE.PORT` where several were recorded; none for the channels as they are named.
    `speed`: FULL_SPEED, or how many times as fast as it was.
    """
    targets = _targets(recording, graph, into)
    first_ns = _check(recording, graph, targets)
    complete = recording.complete
    clock = ReplayClock(first_ns, speed)
    worker = Worker(graph, hosted=_behind(graph, [c.target for c in targets.values()]), clock=clock)
    playback = Playback(recording, list(targets), clock, speed)
    links = {targets[channel].name: link for channel, link in playback.links.items()}
    for edge in worker.edges:
        if edge.name in links:
            edge.channel = Channel(capacity=edge.channel.capacity)
    for name, inlet in worker.inlets.items():
        inlet.attach(links.get(name) or PlaybackLink(None))
    notes = [f"{name} gets nothing: it is not played from the recording" for name in worker.inlets if name not in links]
    if not complete:
        notes.append(f"{recording.path} was cut short by a crash; what is whole is played")
    make_loop = None if speed in (FULL_SPEED, 1.0) else lambda: QuickLoop(speed)
    return Replay(worker, make_loop, notes)


def _targets(recording: Recording, graph: Graph, into: Sequence[str]) -> dict[str, Connection]:
    """Channel of the recording → connection that it plays into."""
    if not into:
        return {channel: find_connection(graph.connections, channel) for channel in recording.channels}
    targets: dict[str, Connection] = {}
    for one in into:
        channel, _, port = one.rpartition("=")
        if not channel and len(recording.channels) > 1:
            raise GraphError(
                f"--into {one}: the recording has several channels, say which: CHANNEL={one}; "
                f"there are: {', '.join(recording.channels)}"
            )
        name = _channel(recording, channel) if channel else recording.channels[0]
        found = [c for c in graph.connections if port.strip() in (c.target, f"{c.target}.{c.target_port}")]
        if not found:
            ports = [f"{c.target}.{c.target_port}" for c in graph.connections]
            raise GraphError(f"--into {one}: there is no input {port!r}{nearest(port, ports)}")
        targets[name] = next((c for c in found if c.name == name), found[0])
    return targets


def _channel(recording: Recording, name: str) -> str:
    ends = [end.strip() for end in name.split("->")]
    for channel in recording.channels:
        whole = [end.strip() for end in channel.split("->")]
        if len(ends) == 2 and all(end in (full, full.partition(".")[0]) for end, full in zip(ends, whole, strict=True)):
            return channel
    raise GraphError(
        f"the recording has no channel {name!r}{nearest(name, recording.channels)}; "
        f"it has: {', '.join(recording.channels)}"
    )


def _check(recording: Recording, graph: Graph, targets: Mapping[str, Connection]) -> int:
    """Read the whole recording and every packet that is to be played; the time of the first of them."""
    first_ns: int | None = None
    types = {name: graph.stages[c.target].info.inputs[c.target_port].type for name, c in targets.items()}
    for recorded in recording:
        if recorded.channel in types:
            try:
                packet = decode(recorded.record)
            except CodecError as error:
                raise RecordingError(
                    f"{recording.path}: a packet of {recorded.channel} cannot be read: {error}"
                ) from None
            wanted = types[recorded.channel]
            if not isinstance(packet.payload, wanted):
                found, target = type(packet.payload).__name__, targets[recorded.channel]
                raise RecordingError(
                    f"{recorded.channel} carries {found}, "
                    f"but {target.target}.{target.target_port} takes {wanted.__name__}"
                )
            first_ns = recorded.time_ns if first_ns is None else first_ns
    if first_ns is None:
        raise RecordingError(f"{recording.path} holds no packet of {', '.join(targets)}")
    return first_ns


def _behind(graph: Graph, stages: Sequence[str]) -> set[str]:
    """These stages and all that they feed."""
    found: set[str] = set()
    waiting = list(stages)
    while waiting:
        stage = waiting.pop()
        if stage not in found:
            found.add(stage)
            waiting += [c.target for c in graph.connections if c.source == stage]
    return found
