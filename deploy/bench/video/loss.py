"""Packet loss: adaptive frames per slot against retransmission, forward error correction and no protection.

The viewer consumes one frame per slot of 500 ms. A slot is served if a frame captured in it can be shown within 150 ms
of its capture. Round trip 80 ms or 160 ms, 2 Mbit/s, packets of 1200 bytes; simulated to the packet, decoded and read
for real.

    thalweg     k frames per slot (pipeline/video/frame_rate.py), bits on the region; each by itself where losses are
                measured, else with intra refresh every second; all that arrives is shown; nothing is repaired
    rtx         10 frames a second in one chain; what is missing is asked for again, as often as it takes, and what
                follows waits for it
    fec         the same chain with an ideal erasure code per frame: twice the loss that was measured as redundancy,
                at least one packet; a frame that fails all the same breaks the chain until the key frame asked for
    fixed-rate  the same chain, nothing against loss but that key frame
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from thalweg.deploy.bench.video.network import FRAME_NS, MS, PACKET, SLOT_NS, Film
from thalweg.pipeline.video.frame_rate import SlotFrames
from thalweg.pipeline.video.impairment import Burst, Impairment, Link
from thalweg.pipeline.video.quantiser import Shape, patches, penalties
from thalweg.stages.video.coder import Coder, Decoder, VideoError

SYSTEMS = ("thalweg", "rtx", "fec", "fixed-rate")
DELAY_MS = 40.0
DEADLINE_NS = 150 * MS
CHAIN_BPS = 150_000
ALONE = 0.1
"""From this share of missed frames on each frame is coded by itself: dearer, but a damaged one then spoils no other."""
SLOT_BITS = 16_000
"""What one of our frames may cost, two packets; the chain spends 15 000 on each of its frames. With 12 000 print became
unreadable, with 20 000 nothing gained; chosen on seeds 510 to 512."""


def link(loss: float, bursty: bool, delay_ms: float) -> Link:
    """2 Mbit/s; bursts last three packets on average."""
    burst = Burst(enter=loss / (3 * (1 - loss)), leave=1 / 3) if bursty else None
    return Link(delay_ms=delay_ms, jitter_ms=3.0, rate=2e6, loss=0.0 if bursty else loss, burst=burst)


@dataclass(slots=True)
class LossRun:
    """Per slot: served in time, and read rightly from what was there at its end. Bits sent, repair included."""

    served: list[bool] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)
    bits: int = 0
    frames: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class _Frame:
    number: int
    captured_ns: int
    slot: int
    data: bytes
    key: bool
    missing: int
    whole_ns: int | None = None
    lost: bool = False


def run(system: str, shown: Film, loss: float, bursty: bool, *, delay_ms: float = DELAY_MS, seed: int = 0) -> LossRun:
    """One system at one loss; `delay_ms` one way."""
    path = link(loss, bursty, delay_ms)
    return _ours(shown, path, seed) if system == "thalweg" else _chain(system, shown, path, seed)


def _drain(path: Impairment[Any], until: int) -> list[tuple[int, Any]]:
    found = []
    while path.next_ns is not None and path.next_ns <= until:
        at = path.next_ns
        while (item := path.pop(at)) is not None:
            found.append((at, item))
    return found


def _sizes(data: bytes) -> list[int]:
    return [PACKET] * (len(data) // PACKET) + ([len(data) % PACKET] if len(data) % PACKET else [])


def _ours(shown: Film, path_link: Link, seed: int) -> LossRun:
    path, found, counts = Impairment[tuple[_Frame, int]](path_link, seed), LossRun(), SlotFrames()
    coder, decoder = Coder(bitrate_bps=4 * SLOT_BITS, rate=4.0, refresh_s=1.0, buffer_s=1.0, sharpest=18), Decoder()
    per_slot = SLOT_NS // FRAME_NS
    picture: tuple[int, Any] | None = None
    sent: list[_Frame] = []
    judged = 0
    k = counts.count
    for i, frame in enumerate(shown.frames):
        now = i * FRAME_NS
        place = i % per_slot
        if place == 0:
            k = min(per_slot, counts.count)
            found.served.append(False)
        if place in {round(j * per_slot / k) for j in range(k)}:
            boxes, strength = shown.looks[i]
            if counts.miss > ALONE:
                coder.request_key()
            tiles = patches(penalties(boxes, 640, 480, shape=Shape(), strength=strength), 640, 480, Shape().block)
            for unit in coder.encode_prepared(frame, now, tiles):
                coded = _Frame(len(sent), now, i // per_slot, unit.data, unit.key, len(_sizes(unit.data)))
                sent.append(coded)
                found.bits += 8 * len(unit.data)
                found.frames += 1
                for size in _sizes(unit.data):
                    path.push((coded, size), size, now)
        for at, (coded, _) in _drain(path, now + FRAME_NS):
            coded.missing -= 1
            if coded.missing:
                continue
            coded.whole_ns = at
            if at - coded.captured_ns <= DEADLINE_NS:
                found.served[coded.slot] = True
            try:
                for decoded in decoder.frames(coded.data, coded.key):
                    picture = coded.captured_ns // FRAME_NS, decoded
            except VideoError:
                continue
        while judged < len(sent) and now - sent[judged].captured_ns > DEADLINE_NS + round(path_link.delay_ms * MS):
            whole = sent[judged].whole_ns
            counts.frame(whole is not None and whole - sent[judged].captured_ns <= DEADLINE_NS)
            judged += 1
        if place == per_slot - 1:
            _read(shown, found, picture, i)
    found.seconds = len(shown.frames) * FRAME_NS / 1e9
    return found


def _chain(system: str, shown: Film, path_link: Link, seed: int) -> LossRun:
    path, found = Impairment[tuple[_Frame, int]](path_link, seed), LossRun()
    coder, decoder = Coder(bitrate_bps=CHAIN_BPS, rate=10.0, sharpest=18), Decoder()
    per_slot = SLOT_NS // FRAME_NS
    picture: tuple[int, Any] | None = None
    again: list[tuple[int, _Frame, int]] = []
    repair_ns = round((2 * path_link.delay_ms + 10) * MS)
    waiting: dict[int, _Frame] = {}
    due, broken, key_ns = 0, False, None
    lost_share, number = 0.02, 0
    for i, frame in enumerate(shown.frames):
        now = i * FRAME_NS
        if i % per_slot == 0:
            found.served.append(False)
        if key_ns is not None and key_ns <= now:
            coder.request_key()
            key_ns = None
        for unit in coder.encode_prepared(frame, now, ()):
            sizes = _sizes(unit.data)
            extra = max(1, math.ceil(len(sizes) * 2 * lost_share)) if system == "fec" else 0
            coded = _Frame(number, now, i // per_slot, unit.data, unit.key, len(sizes))
            number += 1
            waiting[coded.number] = coded
            found.frames += 1
            for size in [*sizes, *[max(sizes)] * extra]:
                found.bits += 8 * size
                gone = path.push((coded, size), size, now) is not None
                lost_share = 0.99 * lost_share + 0.01 * gone
                if gone and system == "rtx":
                    again.append((now + repair_ns, coded, size))
        for step in range(10):  # retransmissions have a finer clock than frames
            tick = now + step * FRAME_NS // 10
            for when, coded, size in [entry for entry in again if entry[0] <= tick]:
                again.remove((when, coded, size))
                found.bits += 8 * size
                if path.push((coded, size), size, tick) is not None:
                    again.append((tick + repair_ns, coded, size))
            for at, (coded, _) in _drain(path, tick + FRAME_NS // 10):
                coded.missing -= 1
                if coded.missing == 0:
                    coded.whole_ns = at
                if system != "rtx":
                    for earlier in waiting.values():
                        earlier.lost = earlier.lost or (earlier.number < coded.number and earlier.whole_ns is None)
                while due in waiting and (waiting[due].lost or waiting[due].whole_ns is not None):
                    first = waiting.pop(due)
                    due += 1
                    if first.lost or (broken and not first.key):
                        broken, key_ns = True, key_ns or at + round(path_link.delay_ms * MS)
                        continue
                    if broken:
                        decoder, broken = Decoder(), False
                    if at - first.captured_ns <= DEADLINE_NS:
                        found.served[first.slot] = True
                    for decoded in decoder.frames(first.data, first.key):
                        picture = first.captured_ns // FRAME_NS, decoded
        if i % per_slot == per_slot - 1:
            _read(shown, found, picture, i)
    found.seconds = len(shown.frames) * FRAME_NS / 1e9
    return found


def _read(shown: Film, found: LossRun, picture: tuple[int, Any] | None, i: int) -> None:
    """At the end of a slot the viewer reads the newest picture it has, if the uncoded one can be read."""
    slot = i - i % (SLOT_NS // FRAME_NS)
    if slot not in shown.readable:
        return
    if picture is None:
        found.right.append(False)
        return
    at, frame = picture
    right, _ = shown.read(frame.to_ndarray(format="rgb24"), at)
    found.right.append(right and shown.question(at) is shown.question(i))
