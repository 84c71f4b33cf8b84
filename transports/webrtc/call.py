"""A conversation as its pipeline sees it: the `CallPeer` that outlives the connections carrying it.

Theory of operation. The server makes a call and runs a pipeline on it. A connection attaches, and is replaced when the
visitor reconnects after a network failure. In between the call is `away`: the microphone gives silence, so that the
current turn ends; play-out is paused; events with `keep` are queued, a bounded number of them, and sent first to the
next connection.

While a call is put on another machine, written questions are held back here: what this machine answered then would be
missing there. They are answered if the call stays: once that is said, a connection is made, or none was for `HELD_NS`.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from thalweg.pipeline.clock import Clock, SystemClock
from thalweg.pipeline.dialogue.events import Bye, Control, Event, Ping, Pong, Prefer, Say, State, Watch
from thalweg.pipeline.dialogue.playout import Finished, PlayEvent, Playout, PlayState, Started
from thalweg.pipeline.dialogue.written import Written
from thalweg.pipeline.payload import AudioChunk, EncodedVideo, VideoFrame

RATE = 16_000
UNIT = 320
UNIT_NS = 20_000_000
STARVED_NS = 200_000_000
KEPT_EVENTS = 200
QUEUED_UNITS = 250
LATE_RUN = 5
HELD_NS = 20_000_000_000
HELD_QUESTIONS = 8


class Carrier(Protocol):
    """A connection, as a call sees it."""

    def send(self, message: str) -> None:
        """Send a message on the data channel; dropped where there is none yet."""
        ...

    def send_video(self, time_ns: int, unit: EncodedVideo) -> None:
        """Send one encoded picture."""
        ...


class Call:
    """One conversation. `floor`: who has it, see `State`. `counts`: units of audio that came too late
    (`audio_late`), that the pipeline was too slow for (`audio_lost`) and in whose place there was silence
    (`audio_missing`), and camera frames that a newer one replaced (`frames_replaced`).

    `started`, `finished`: answers that began to sound, by epoch with the time, and that are over. The consumer of these
    measurements removes them. `written`: what is known of questions in writing.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or SystemClock()
        self.playout = Playout()
        self.written = Written()
        self.on_control: Callable[[Control], None] = lambda control: None
        self.on_prefer: Callable[[Prefer], None] = lambda wish: None
        self.on_bitrate: Callable[[int], None] = lambda bitrate_bps: None
        self.on_key_wanted: Callable[[], None] = lambda: None
        self.on_codecs: Callable[[tuple[str, ...]], None] = lambda codecs: None
        self.on_play: Callable[[PlayEvent], None] = lambda event: None
        self.started: dict[int, int] = {}
        self.finished: deque[Finished] = deque(maxlen=64)
        self.playout.on_cut = self.finished.append
        self.watched = False
        self.floor = "listening"
        self.counts: Counter[str] = Counter()
        self.ended = False
        self._carrier: Carrier | None = None
        self._kept: deque[Event] = deque(maxlen=KEPT_EVENTS)
        self._held: deque[Say] = deque(maxlen=HELD_QUESTIONS)
        self._held_ns: int | None = None
        self._units: deque[tuple[int, AudioChunk]] = deque()
        self._frame: tuple[int, VideoFrame] | None = None
        self._begun = asyncio.Event()
        self._came = asyncio.Event()
        self._frame_came = asyncio.Event()
        self._next_ns = self.clock.now_ns()
        self._behind_ns = 0
        self._late_run = 0

    @property
    def connected(self) -> bool:
        """Whether a connection carries the call now."""
        return self._carrier is not None

    @property
    def between_turns(self) -> bool:
        """Whether neither side has the floor and nothing waits to be played."""
        return self.floor == "listening" and self.playout.state is PlayState.IDLE

    @property
    def untouched(self) -> bool:
        """Whether no peer has connected yet and no audio or video has arrived."""
        return not self._begun.is_set() and not self._units and self._frame is None

    def attach(self, carrier: Carrier) -> None:
        """Use `carrier` from now on, and send it the queued events."""
        self._carrier = carrier
        self._begun.set()
        self.stays()
        kept, self._kept = list(self._kept), deque(maxlen=KEPT_EVENTS)
        for event in kept:
            self.tell(event)

    def detach(self, carrier: Carrier) -> None:
        """`carrier` is gone. Ignored if another one has taken over already."""
        if self._carrier is carrier:
            self._carrier = None

    def end(self, code: str, message: str, *, silently: bool = False) -> None:
        """End the conversation, and tell the visitor unless it goes on elsewhere. Idempotent."""
        if not self.ended:
            if not silently:
                self.tell(Bye(code=code, message=message))
            self.ended = True
            self._begun.set()
            self._came.set()
            self._frame_came.set()

    def heard(self, time_ns: int, samples: NDArray[np.float32]) -> None:
        """One unit of the visitor's microphone, captured at `time_ns`. Never waits.

        A few late units are dropped. When all are late, the visitor's clock has stood still (a busy machine): from then
        on it counts as that much behind; otherwise nothing would be heard any more.
        """
        time_ns += self._behind_ns
        if time_ns > self._next_ns + 10 * UNIT_NS and self._behind_ns:
            time_ns, self._behind_ns = time_ns - self._behind_ns, 0
        if time_ns + UNIT_NS // 2 < self._next_ns:
            self.counts["audio_late"] += 1
            self._late_run += 1
            if self._late_run < LATE_RUN:
                return
            self._behind_ns += self._next_ns - time_ns
            time_ns = self._next_ns
        self._late_run = 0
        self._fill(time_ns - UNIT_NS // 2, at_most=50)
        if len(self._units) >= QUEUED_UNITS:
            self._units.popleft()
            self.counts["audio_lost"] += 1
        self._put(samples)

    def saw(self, time_ns: int, frame: VideoFrame) -> None:
        """One frame of the visitor's camera. Only the newest is kept."""
        if self._frame is not None:
            self.counts["frames_replaced"] += 1
        self._frame = (time_ns, frame)
        self._frame_came.set()

    def leaves(self) -> None:
        """The call is about to be put on another machine: see the head of this file."""
        self._held_ns = self.clock.now_ns()

    def may_stay(self) -> None:
        """Answer what was held back for too long. To be called now and then."""
        if self._held_ns is not None and self.clock.now_ns() - self._held_ns > HELD_NS:
            self.stays()

    def stays(self) -> None:
        """The call is not put on another machine after all: answer what was held back. Idempotent."""
        self._held_ns = None
        while self._held:
            self.control(self._held.popleft())

    def control(self, control: Control) -> None:
        """A control message of the visitor."""
        if isinstance(control, Ping):
            self.tell(Pong(t=control.t))
        elif isinstance(control, Watch):
            self.watched = control.on
        elif isinstance(control, Prefer):
            self.on_prefer(control)
        elif isinstance(control, Say) and self._held_ns is not None:
            self._held.append(control)
        elif not isinstance(control, Say) or self.written.take(control):
            self.on_control(control)

    def play(self, count: int) -> NDArray[np.float32]:
        """The next `count` samples to play; called by the connection that carries the call."""
        samples, events = self.playout.pull(count, self.clock.now_ns())
        for event in events:
            if isinstance(event, Started):
                self.started[event.epoch] = event.time_ns
            else:
                self.finished.append(event)
            self.on_play(event)
        return samples

    async def audio(self) -> AsyncIterator[tuple[int, AudioChunk]]:
        """See `CallPeer.audio`. Nothing, not even silence, before a peer has connected."""
        await self._begun.wait()
        self._next_ns = self.clock.now_ns()
        while not self.ended:
            while self._units:
                yield self._units.popleft()
            self._came.clear()
            try:
                async with asyncio.timeout(STARVED_NS / 2e9):
                    await self._came.wait()
            except TimeoutError:
                self._fill(self.clock.now_ns() - STARVED_NS, at_most=QUEUED_UNITS)

    async def video(self) -> AsyncIterator[tuple[int, VideoFrame]]:
        """See `CallPeer.video`."""
        while not self.ended:
            await self._frame_came.wait()
            self._frame_came.clear()
            frame, self._frame = self._frame, None
            if frame is not None:
                yield frame

    def tell(self, event: Event) -> None:
        """See `CallPeer.tell`."""
        if isinstance(event, State):
            self.floor = event.state
        self.written.told(event)
        if self._carrier is not None:
            self._carrier.send(event.encode())
        elif event.keep:
            self._kept.append(event)

    def show(self, time_ns: int, unit: EncodedVideo) -> None:
        """See `CallPeer.show`."""
        if self._carrier is not None:
            self._carrier.send_video(time_ns, unit)

    def _fill(self, until_ns: int, at_most: int) -> None:
        """Silence in place of missing units; after a long absence only its end, so the stream jumps in time."""
        missing = (until_ns - self._next_ns) // UNIT_NS
        if missing > at_most:
            self._next_ns += (missing - at_most) * UNIT_NS
            missing = at_most
        for _ in range(missing):
            self.counts["audio_missing"] += 1
            self._put(np.zeros(UNIT, np.float32))

    def _put(self, samples: NDArray[np.float32]) -> None:
        self._units.append((self._next_ns, AudioChunk(samples=samples, rate=RATE)))
        self._next_ns += UNIT_NS
        self._came.set()
