"""A network that is not there: video over an emulated link, to see what a pipeline makes of a bad one."""

from __future__ import annotations

import heapq
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from thalweg.models.store.bounded import read_text_at_most
from thalweg.pipeline.duration import MS, Duration
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import EncodedVideo
from thalweg.pipeline.signal import Bitrate, Configure, Direction, KeyFrame
from thalweg.pipeline.stage import Context
from thalweg.pipeline.video.congestion import CongestionEstimate, Report
from thalweg.pipeline.video.frame_rate import SlotFrames
from thalweg.pipeline.video.impairment import Burst, Impairment, Link

log = logging.getLogger(__name__)

BYTES = 1200
_REPORT_NS = 100 * MS
_NEWS = 0.05
_MAHIMAHI_BITS = 1504 * 8
_MAHIMAHI_MS = 100


@dataclass(slots=True)
class _Unit:
    packet: Packet
    missing: int
    lost: bool = False


class VideoLink:
    """Sends video over an emulated network with a given rate, delay and loss, on the pipeline's clock.

    A unit is sent in packets of 1200 bytes and emitted when the last of them has arrived. A unit that lost a packet is
    never emitted; it is counted in `lost`, by reason, and a key frame is requested upstream after the delay of the
    return path. The estimated capacity is signalled as a rate, at most every 100 ms and when it changed by a twentieth:
    `up` to the encoder, or `down` to a stage that decides. With `slots` and `encoder`, the names of such stages, the
    one is told how many frames per slot are needed, and the other whether to code each independently. Equal seed and
    input give an equal run.
    """

    inputs = {"video": EncodedVideo}
    outputs = {"video": EncodedVideo}

    def __init__(
        self,
        delay: Annotated[Duration, Field(ge=0, description="one-way delay on the wire")] = 40 * MS,
        jitter: Annotated[Duration, Field(ge=0, description="standard deviation of the delay")] = 0,
        loss: Annotated[float, Field(ge=0, lt=1, description="share of packets that are lost")] = 0.0,
        burst: Annotated[
            float, Field(ge=1, description="mean number of packets lost in a row; 1: independent losses")
        ] = 1.0,
        rate: Annotated[float | None, Field(ge=1, description="bit/s; default: unlimited")] = None,
        trace: Annotated[
            tuple[tuple[float, float], ...],
            Field(description="pairs [seconds, bit/s], repeated indefinitely, instead of `rate`"),
        ] = (),
        recording: Annotated[
            Path | None, Field(description="a recorded trace in Mahimahi's format, instead of `trace`")
        ] = None,
        queue: Annotated[int, Field(ge=0, description="capacity of the send queue, bytes")] = 64_000,
        outages: Annotated[
            tuple[tuple[float, float], ...],
            Field(description="pairs [start, length], seconds, in which all packets are lost"),
        ] = (),
        seed: Annotated[int, Field(description="seed of the random numbers")] = 0,
        tell: Annotated[
            Literal["up", "down", "none"], Field(description="direction in which the rate is signalled")
        ] = "none",
        slots: Annotated[str, Field(description="name of the video.slots stage upstream")] = "",
        encoder: Annotated[str, Field(description="name of the video.encode stage upstream")] = "",
        deadline: Annotated[
            Duration, Field(description="longest time since capture; a later unit counts as missed")
        ] = 150 * MS,
        alone: Annotated[
            float, Field(ge=0, le=1, description="share of missed units from which frames are coded independently")
        ] = 0.1,
    ) -> None:
        random = 0.0 if burst > 1 else loss
        bursts = Burst(enter=min(1.0, loss / (burst * (1 - loss))), leave=1 / burst) if burst > 1 and loss else None
        self._link = Link(
            delay_ms=delay / MS,
            jitter_ms=jitter / MS,
            loss=random,
            burst=bursts,
            rate=rate,
            trace=read_mahimahi(recording) if recording is not None else trace,
            queue_bytes=queue,
            outages=outages,
        )
        self.lost: Counter[str] = Counter()
        self.delivered = 0
        self._seed, self._tell = seed, tell
        self._slots, self._encoder = slots, encoder
        self._deadline_ns, self._alone = deadline, alone
        self._back_ns = delay
        self._path: Impairment[tuple[_Unit, int, int]] | None = None
        self._estimate = CongestionEstimate()
        self._counts = SlotFrames()
        self._reports: list[Report] = []
        self._reported_ns: int | None = None
        self._told_bps = 0
        self._told: dict[str, object] = {}
        self._later: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = count()
        self._key_wanted = False

    def process(self, packet: Packet, ctx: Context) -> None:
        """Send one unit."""
        video, now_ns = packet.payload, ctx.now_ns()
        assert isinstance(video, EncodedVideo)
        if self._path is None:
            self._path = Impairment(self._link, self._seed, start_ns=now_ns)
        sizes = [BYTES] * (len(video.data) // BYTES) + ([len(video.data) % BYTES] if len(video.data) % BYTES else [])
        unit = _Unit(packet, len(sizes))
        for size in sizes:
            reason = self._path.push((unit, size, now_ns), size, now_ns)
            if reason is not None:
                if not unit.lost:
                    self.lost[reason.value] += 1
                    self._after(now_ns + self._back_ns, lambda: self._missed(unit, ctx))
                unit.lost = True
                lost = Report(now_ns, None, size)
                self._after(now_ns + 2 * self._back_ns, lambda lost=lost: self._reports.append(lost))  # type: ignore[misc]
        self._alarm(ctx)

    def wake(self, ctx: Context) -> None:
        """Deliver what has arrived by now; act on what has come back."""
        now_ns = ctx.now_ns()
        while self._path is not None and self._path.next_ns is not None and self._path.next_ns <= now_ns:
            while (found := self._path.pop(now_ns)) is not None:
                self._arrive(*found, ctx)
        while self._later and self._later[0][0] <= now_ns:
            heapq.heappop(self._later)[2]()
        self._advise(now_ns, ctx)
        self._alarm(ctx)

    async def finish(self, ctx: Context) -> None:
        """What is on the wire still arrives, each at its time."""
        while self._path is not None and self._path.next_ns is not None:
            await ctx.sleep_until(self._path.next_ns)
            self.wake(ctx)
        ctx.wake_at(None)
        if self.lost:
            log.info("%s: %d units arrived; lost: %s", ctx.name, self.delivered, dict(self.lost))

    def _arrive(self, unit: _Unit, size: int, sent_ns: int, ctx: Context) -> None:
        now_ns = ctx.now_ns()
        report = Report(sent_ns, now_ns, size)
        self._after(now_ns + self._back_ns, lambda: self._reports.append(report))
        unit.missing -= 1
        if unit.missing or unit.lost:
            return
        self.delivered += 1
        packet = unit.packet
        in_time = now_ns - packet.time <= self._deadline_ns
        self._after(now_ns + self._back_ns, lambda: self._counts.frame(in_time))
        ctx.emit(packet.payload, time=packet.time, epoch=packet.epoch, deadline=packet.deadline)

    def _missed(self, unit: _Unit, ctx: Context) -> None:
        """The receiver has noticed that a unit will not become whole."""
        self._after(ctx.now_ns() + self._back_ns, lambda: self._counts.frame(False))
        if not self._told.get("alone") and not self._key_wanted:
            self._key_wanted = True
            self._after(ctx.now_ns() + self._back_ns, lambda: self._ask(ctx))

    def _ask(self, ctx: Context) -> None:
        self._key_wanted = False
        ctx.signal(KeyFrame(origin=ctx.name), Direction.UP)

    def _advise(self, now_ns: int, ctx: Context) -> None:
        """Every 100 ms: the rate, and the frames per slot, where they are others than were told."""
        if self._reported_ns is not None and 0 <= now_ns - self._reported_ns < _REPORT_NS:
            return
        self._reported_ns = now_ns
        self._estimate.update(now_ns, self._reports)
        self._reports = []
        rate = self._estimate.ceiling_bps
        if self._tell != "none" and abs(rate - self._told_bps) > _NEWS * self._told_bps:
            self._told_bps = rate
            way = Direction.UP if self._tell == "up" else Direction.DOWN
            ctx.signal(Bitrate(origin=ctx.name, bitrate_bps=rate), way)
        news: dict[str, object] = {"frames": self._counts.count, "alone": self._counts.miss > self._alone}
        for stage, setting in ((self._slots, "frames"), (self._encoder, "alone")):
            if stage and self._told.get(setting) != news[setting]:
                self._told[setting] = news[setting]
                ctx.signal(Configure(origin=ctx.name, stage=stage, settings={setting: news[setting]}), Direction.UP)

    def _after(self, time_ns: int, act: Callable[[], None]) -> None:
        heapq.heappush(self._later, (time_ns, next(self._numbers), act))

    def _alarm(self, ctx: Context) -> None:
        times = [self._later[0][0]] if self._later else []
        if self._path is not None and self._path.next_ns is not None:
            times.append(self._path.next_ns)
        ctx.wake_at(min(times, default=None))


def read_mahimahi(path: Path) -> tuple[tuple[float, float], ...]:
    """A trace in Mahimahi's format, one line per chance to send 1504 bytes, in ms, as rates over 100 ms each.

    Raises ThalwegError on anything else.
    """
    try:
        times = [int(line) for line in read_text_at_most(path).splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise ThalwegError(f"{path} is no trace of Mahimahi's, one time in ms a line: {error}") from None
    if not times or times[0] < 0 or times != sorted(times):
        raise ThalwegError(f"{path} is no trace of Mahimahi's: expected times in ms that never fall")
    chances = Counter(time // _MAHIMAHI_MS for time in times)
    seconds = _MAHIMAHI_MS / 1e3
    return tuple((seconds, chances[place] * _MAHIMAHI_BITS / seconds) for place in range(max(chances) + 1))
