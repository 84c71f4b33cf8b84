"""Video over bad links with real sockets, between two network namespaces: a check of what the simulation says.

The same film, encoder, controllers and reader as `network.py`, in two processes that send datagrams to each other in
real time through the link emulator of `tests/netlab`. The two share the machine's clock, so latencies are exact; what
the machine does besides is in them.

    python -m thalweg.deploy.bench.video.sockets sender|viewer SECONDS SEED …     orders and findings are JSON lines
"""

from __future__ import annotations

import json
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from thalweg.deploy.bench.video.footage import SURE
from thalweg.deploy.bench.video.network import (
    DELAY_MS,
    FRAME_NS,
    PACKET,
    PRIOR,
    SLOT_NS,
    TIERS,
    Film,
    Receiver,
    Run,
    film,
    target_of,
)
from thalweg.deploy.bench.video.traces import Trace, traces
from thalweg.pipeline.video.congestion import CongestionEstimate, Report
from thalweg.pipeline.video.impairment import Link
from thalweg.pipeline.video.quantiser import Shape, patches, penalties
from thalweg.pipeline.video.rate_control import RateController
from thalweg.pipeline.video.region_benefit import RegionBenefit
from thalweg.stages.video.coder import Coder, VideoError

SYSTEMS = ("thalweg", "congestion", "fixed-rate")
TRACES = ("steady 250 kbit/s", "step down", "saw", "LTE-like, train", "5G-like, street", "outages, short")
PORT = 7801
_HEAD = struct.Struct(">IIHHBQ")
_LOST_AFTER_NS = 600_000_000


class Lane:
    """Two hosts with a link between them, and a process on each that has the film ready."""

    def __init__(self, net: Any, seeds: Sequence[int], seconds: float) -> None:  # Any: a lab of tests.netlab
        self._net = net
        options: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        module, shown = ("-m", "thalweg.deploy.bench.video.sockets"), (str(seconds), *map(str, seeds))
        self._viewer = net.near.python(*module, "viewer", *shown, **options)
        self._sender = net.far.python(*module, "sender", *shown, **options)
        for end in (self._viewer, self._sender):
            assert end.stdout.readline().strip() == "ready"

    def run(self, system: str, trace: str) -> dict[str, Any]:
        """One system over one trace: what `network.Run` holds."""
        self._net.change(link(traces()[trace]), "far", "near")
        self._net.change(Link(delay_ms=DELAY_MS), "near", "far")
        orders = {"system": system, "address": self._net.near.address}
        for end in (self._viewer, self._sender):
            end.stdin.write(json.dumps(orders) + "\n")
            end.stdin.flush()
        sent, seen = (json.loads(end.stdout.readline()) for end in (self._sender, self._viewer))
        return {**seen, **sent}


def link(trace: Trace) -> Link:
    """As in the simulation."""
    return Link(delay_ms=DELAY_MS, jitter_ms=3.0, trace=trace, queue_bytes=60_000)


def send(shown: Film, system: str, address: str) -> dict[str, Any]:
    """Play the film once to the viewer; bits, key frames and seconds."""
    wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    wire.connect((address, PORT))
    wire.setblocking(False)
    estimate = CongestionEstimate(200_000, lowest_bps=20_000)
    control = RateController(tiers_bps=TIERS, prior=PRIOR, rates=(4.0, 10.0), threshold=SURE)
    trust = RegionBenefit(threshold=SURE, unsure=4)
    begin = time.monotonic_ns()
    coder = Coder(bitrate_bps=control.decide(200_000, begin).bitrate_bps, rate=10.0, buffer_s=0.3, sharpest=18)
    under_way: dict[int, tuple[int, int]] = {}
    rate_of: dict[int, tuple[int, bool]] = {}
    number = sequence = bits = keys = 0
    asked: object = None
    for i, frame in enumerate(shown.frames):
        _wait_until(begin + i * FRAME_NS)
        now = time.monotonic_ns()
        reports = []
        for news in _received(wire):
            for which, arrived_ns, size in news["arrived"]:
                if which in under_way:
                    reports.append(Report(under_way.pop(which)[0], arrived_ns, size))
            for which, sure in news["answers"]:
                rate, followed = rate_of.get(which, (0, False))
                control.answer(sure, rate, now)
                trust.answer(sure, followed, now)
            if news["key"]:
                coder.request_key()
        for which, (sent_ns, size) in list(under_way.items()):
            if now - sent_ns > _LOST_AFTER_NS:
                del under_way[which]
                reports.append(Report(sent_ns, None, size))
        estimate.update(now, reports)
        if asked is not shown.question(i):
            asked = shown.question(i)
            control.ask()
            trust.ask()
        target, every = target_of(system, control, estimate, now, 300_000)
        if i % every:
            continue
        follow = system == "thalweg" and trust.follows(now)
        boxes, strength = shown.looks[i] if follow else ((), 0.0)
        found = penalties(boxes, 640, 480, shape=Shape(), strength=round(strength * 8) / 8)
        coder.set_bitrate(round(target * every))
        for unit in coder.encode_prepared(frame, i * FRAME_NS, patches(found, 640, 480, Shape().block)):
            pieces = [unit.data[at : at + PACKET] for at in range(0, len(unit.data), PACKET)]
            rate_of[number] = (target, follow)
            bits, keys = bits + 8 * len(unit.data), keys + unit.key
            for piece in pieces:
                under_way[sequence] = time.monotonic_ns(), len(piece)
                head = _HEAD.pack(sequence, number, len(pieces), i, unit.key, begin + i * FRAME_NS)
                _send(wire, head + piece)
                sequence += 1
            number += 1
    _wait_until(begin + len(shown.frames) * FRAME_NS + 1_000_000_000)
    _send(wire, b"")
    wire.close()
    return {"bits": bits, "keys": keys, "seconds": len(shown.frames) * FRAME_NS / 1e9}


def view(shown: Film, wire: socket.socket) -> dict[str, Any]:
    """Watch one play; what was read, when frames could be shown, and what stood still."""
    receiver, found = Receiver(), Run()
    frames: dict[int, tuple[int, int]] = {}
    answers: list[tuple[int, float]] = []
    arrived: list[tuple[int, int, int]] = []
    looking: threading.Thread | None = None
    begin = due = told = 0
    sender: Any = None
    slot, number = SLOT_NS // FRAME_NS, 0
    parts: dict[int, list[bytes]] = {}
    while True:
        ready, _, _ = select.select([wire], [], [], 0.01)
        now = time.monotonic_ns()
        if ready:
            data, sender = wire.recvfrom(2048)
            if not data:
                break
            sequence, number, count, i, key, captured = _HEAD.unpack_from(data)
            arrived.append((sequence, now, len(data) - _HEAD.size))
            begin = begin or captured - i * FRAME_NS
            due = due or begin + 2 * SLOT_NS
            parts.setdefault(number, []).append(data[_HEAD.size :])
            frames[number] = i, captured
            if len(parts[number]) == count:
                receiver.expect(number, b"".join(parts.pop(number)), bool(key), 1)
                try:
                    if receiver.take(number):
                        found.latency_ms.append((time.monotonic_ns() - captured) / 1e6)
                except VideoError:
                    receiver.broken = True
        if begin and now >= due and (looking is None or not looking.is_alive()):
            at = min(len(shown.frames) - 1, (due - begin) // FRAME_NS)
            due += SLOT_NS
            if at % slot == 0 and at < len(shown.frames) - 1:
                looking = threading.Thread(
                    target=_look, args=(shown, receiver.picture, dict(frames), at, found, answers)
                )
                looking.start()
        if sender is not None and now - told > FRAME_NS:
            told = now
            said, answers[:] = list(answers), []
            news = {"arrived": arrived, "answers": said, "key": receiver.broken}
            wire.sendto(json.dumps(news).encode(), sender)
            arrived = []
    if looking is not None:
        looking.join()
    return asdict(found)


def _look(
    shown: Film,
    picture: tuple[int, Any] | None,
    frames: dict[int, tuple[int, int]],
    at: int,
    found: Run,
    answers: list[tuple[int, float]],
) -> None:
    """As the simulated viewer looks, beside the reception."""
    if picture is None:
        found.stalled.append(True)
        if at in shown.readable:
            found.right.append(False)
        return
    number, frame = picture
    seen = frames[number][0]
    found.stalled.append((at - seen) * FRAME_NS > 1_000_000_000)
    right, sure = shown.read(frame.to_ndarray(format="rgb24"), seen)
    if at in shown.readable:
        found.right.append(right and shown.question(seen) is shown.question(at))
    answers.append((number, sure))


def _received(wire: socket.socket) -> list[dict[str, Any]]:
    found = []
    while True:
        try:
            found.append(json.loads(wire.recv(65_536)))
        except (BlockingIOError, ConnectionRefusedError):
            return found


def _send(wire: socket.socket, data: bytes) -> None:
    try:
        wire.send(data)
    except (BlockingIOError, ConnectionRefusedError):
        return


def _wait_until(time_ns: int) -> None:
    time.sleep(max(0.0, (time_ns - time.monotonic_ns()) / 1e9))


def main(end: str, seconds: float, seeds: Sequence[int]) -> None:
    """One end: says `ready`, then plays the film once for each line of orders."""
    shown = film(seeds, seconds=seconds)
    wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    if end == "viewer":
        wire.bind(("0.0.0.0", PORT))
    print("ready", flush=True)
    for line in sys.stdin:
        orders = json.loads(line)
        play: Callable[[], dict[str, Any]] = (
            (lambda: view(shown, wire))
            if end == "viewer"
            else (lambda orders=orders: send(shown, orders["system"], orders["address"]))  # type: ignore[misc]
        )
        print(json.dumps(play()), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), [int(seed) for seed in sys.argv[3:]])
