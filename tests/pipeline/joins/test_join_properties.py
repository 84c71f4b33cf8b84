"""Joins against oracles that look at everything at once, and the account of every packet whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import zip_longest
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.pipeline.joins.join import Exact, Join, JoinSpec, Latest, Nearest, PacketSet, Window
from thalweg.pipeline.packet import AMBIENT, Packet
from thalweg.pipeline.payload import Token

PORTS = ("a", "b", "c")
Streams = Mapping[str, list[Packet]]
Set = tuple[int, int, tuple[tuple[tuple[str, int], ...], ...]]
"""Time, epoch, and the members by port, each as its stream and number."""


def as_set(time: int, members: Mapping[str, list[Packet]]) -> Set:
    epochs = {p.epoch for packets in members.values() for p in packets} - {AMBIENT}
    return time, max(epochs, default=AMBIENT), tuple(tuple((p.stream, p.seq) for p in members[port]) for port in PORTS)


def drain(join: Join) -> list[PacketSet]:
    return list(iter(join.pop, None))


def plain(found: list[PacketSet]) -> list[Set]:
    return [as_set(joined.time, {port: list(joined.packets[port]) for port in PORTS}) for joined in found]


def compatible(*packets: Packet) -> bool:
    return len({p.epoch for p in packets} - {AMBIENT}) <= 1


# Oracles: all that comes of streams that are known from beginning to end.


def exact(streams: Streams) -> list[Set]:
    found = []
    for time in sorted({p.time for packets in streams.values() for p in packets}):
        left = {port: [p for p in streams[port] if p.time == time] for port in PORTS}
        while all(left.values()):
            heads = [left[port][0] for port in PORTS]
            newest = max(p.epoch for p in heads)
            if compatible(*heads):
                found.append(as_set(time, {port: [left[port].pop(0)] for port in PORTS}))
            else:
                left = {port: ps[ps[0].epoch not in (AMBIENT, newest) :] for port, ps in left.items()}
    return found


def nearest(streams: Streams, tolerance: int = 4) -> list[Set]:
    found = []
    for first in streams["a"]:

        def of(port: str, epoch: int | None, first: Packet = first) -> Packet | None:
            near = [p for p in streams[port] if abs(p.time - first.time) <= tolerance]
            near = [p for p in near if epoch is None or p.epoch in (AMBIENT, epoch)]
            return min(near, key=lambda p: (abs(p.time - first.time), p.time, p.seq), default=None)

        unruly = [of(port, None) for port in PORTS[1:]]
        epoch = first.epoch or max((p.epoch for p in unruly if p is not None), default=AMBIENT)
        partners = [of(port, epoch) for port in PORTS[1:]]
        if None not in partners:
            together = zip(PORTS, [first, *partners], strict=True)
            found.append(as_set(first.time, {port: [p] for port, p in together if p is not None}))
    return found


def latest(streams: Streams, triggers: tuple[str, ...]) -> list[Set]:
    """The rounds of a time: the first packets of that time on every port, then the second ones, …"""
    found = []
    for time in sorted({p.time for packets in streams.values() for p in packets}):
        of_time = [[(port, p) for p in streams[port] if p.time == time] for port in PORTS]
        for n, row in enumerate(zip_longest(*of_time)):
            in_round = dict(entry for entry in row if entry is not None)
            known = {
                port: [p for p in streams[port] if p.time < time]
                + [p for p in streams[port] if p.time == time][: n + 1]
                for port in PORTS
            }
            behind = {port: max((p.epoch for p in known[port]), default=AMBIENT) for port in PORTS}
            usable = {port: [p for p in known[port] if p.epoch in (AMBIENT, behind[port])] for port in PORTS}
            leading = [in_round[port] for port in triggers if port in in_round and in_round[port] in usable[port]]
            if not leading or not all(usable.values()):
                continue
            epoch = max(p.epoch for p in leading) or max(usable[port][-1].epoch for port in PORTS)
            fitting = {port: [p for p in usable[port] if p.epoch in (AMBIENT, epoch)][-1:] for port in PORTS}
            if all(fitting.values()):
                found.append(as_set(time, fitting))
    return found


def window(streams: Streams, size: int, hop: int) -> list[Set]:
    found = []
    for start in range(-20 * hop, 100, hop):
        inside = {port: [p for p in streams[port] if start <= p.time < start + size] for port in PORTS}
        epochs = {p.epoch for packets in inside.values() for p in packets}
        for epoch in sorted(epochs - {AMBIENT}) or sorted(epochs):
            found.append(
                as_set(
                    start,
                    {port: [p for p in packets if p.epoch in (AMBIENT, epoch)] for port, packets in inside.items()},
                )
            )
    return found


ORACLES: list[tuple[JoinSpec, Callable[[Streams], list[Set]]]] = [
    (Exact(), exact),
    (Nearest(reference="a", tolerance_ns=4), nearest),
    (Latest(trigger="a"), lambda streams: latest(streams, ("a",))),
    (Latest(), lambda streams: latest(streams, PORTS)),
    (Window(size_ns=7), lambda streams: window(streams, 7, 7)),
    (Window(size_ns=9, hop_ns=4), lambda streams: window(streams, 9, 4)),
]
SPECS = [spec for spec, _ in ORACLES]
LIMITED: list[JoinSpec] = [
    Exact(capacity=3),
    Nearest(reference="b", tolerance_ns=6, capacity=2),
    Nearest(reference="a", tolerance_ns=9, patience_ns=5),
    Latest(trigger="c", capacity=1),
    Latest(capacity=2, patience_ns=3),
    Window(size_ns=8, hop_ns=3, capacity=3),
    Window(size_ns=5, patience_ns=10),
]


def packet(port: str, seq: int, time: int, epoch: int) -> Packet:
    return Packet(stream=port, seq=seq, time=time, epoch=epoch, payload=Token(text=port))


EPOCHS = st.sampled_from([AMBIENT, AMBIENT, AMBIENT, 1, 1, 2, 3])
STREAM = st.lists(st.tuples(st.integers(0, 30), EPOCHS), max_size=14).map(
    lambda s: sorted(s, key=lambda entry: entry[0])
)
STREAMS = st.fixed_dictionaries(dict.fromkeys(PORTS, STREAM)).map(
    lambda streams: {port: [packet(port, n, *entry) for n, entry in enumerate(streams[port])] for port in PORTS}
)


@st.composite
def arrivals(draw: st.DrawFn, streams: Streams) -> list[tuple[str, Packet | int | None]]:
    """The packets in some order that keeps that of each port; now and then a true promise; the ends, perhaps early."""
    order = draw(st.permutations([port for port in PORTS for _ in range(len(streams[port]) + 1)]))
    left: dict[str, list[Packet | None]] = {port: [*streams[port], None] for port in PORTS}
    events: list[tuple[str, Packet | int | None]] = []
    for port in order:
        event = left[port].pop(0)
        if event is not None and draw(st.booleans()):
            events.append((port, draw(st.integers(-1, event.time))))
        events.append((port, event))
    return events


def tell(join: Join, port: str, event: Packet | int | None) -> None:
    if event is None:
        join.close(port)
    elif isinstance(event, int):
        join.watermark(port, event)
    else:
        join.push(port, event)


@pytest.mark.parametrize(("spec", "oracle"), ORACLES, ids=lambda value: repr(value) if value in SPECS else "")
@given(data=st.data(), streams=STREAMS)
def test_whatever_the_order_of_arrival_a_join_finds_what_looking_at_everything_finds(
    spec: JoinSpec, oracle: Callable[[Streams], list[Set]], data: st.DataObject, streams: Streams
) -> None:
    join = spec.start(PORTS)
    found: list[PacketSet] = []
    for port, event in data.draw(arrivals(streams)):
        tell(join, port, event)
        found += drain(join)
    expected = oracle(streams)
    assert plain(found) == expected
    unique = {member for _, _, members in expected for port in members for member in port}
    assert (join.held, join.delivered) == (0, len(unique))


@pytest.mark.parametrize("spec", SPECS, ids=repr)
@given(data=st.data(), streams=STREAMS)
def test_popping_late_finds_the_same_sets_as_popping_at_once(
    spec: JoinSpec, data: st.DataObject, streams: Streams
) -> None:
    at_once, late = spec.start(PORTS), spec.start(PORTS)
    found: list[PacketSet] = []
    for port, event in data.draw(arrivals(streams)):
        tell(at_once, port, event)
        tell(late, port, event)
        found += drain(at_once)
    assert drain(late) == found


ANY_PORTS = st.sampled_from([*PORTS, "abc", "abc", "abc"])
TROUBLE = st.lists(
    st.one_of(
        st.tuples(st.just("push"), ANY_PORTS, st.integers(-2, 8), EPOCHS),
        st.tuples(st.just("push"), ANY_PORTS, st.integers(0, 4), st.just(AMBIENT)),
        st.tuples(st.just("watermark"), ANY_PORTS, st.integers(-5, 12), st.just(0)),
        st.tuples(st.just("pop"), st.just(""), st.just(0), st.just(0)),
        st.tuples(st.just("drain"), st.just(""), st.just(0), st.just(0)),
        st.one_of(
            st.tuples(st.just("close"), st.sampled_from(PORTS), st.just(0), st.just(0)),
            st.tuples(st.just("epoch"), st.just(""), st.just(0), st.integers(0, 4)),
        ),
    ),
    min_size=8,
    max_size=40,
)
"""Times are steps from where each port stands, so that some packets are late; ports may close in the middle."""


class Run:
    """Drives a join through trouble and remembers what came of it."""

    def __init__(self, spec: JoinSpec) -> None:
        self.join = spec.start(PORTS)
        self.now = dict.fromkeys(PORTS, 0)
        self.pushed = 0
        self.floor = AMBIENT
        self.found: list[PacketSet] = []

    def step(self, event: str, ports: str, time: int, epoch: int) -> None:
        match event:
            case "push":
                for port in ports:
                    self.now[port] += time
                    self.join.push(port, packet(port, self.pushed, self.now[port], epoch))
                    self.pushed += 1
            case "watermark":
                for port in ports:
                    self.join.watermark(port, self.now[port] + time)
            case "close":
                self.join.close(ports)
            case "epoch":
                self.floor = max(self.floor, epoch)
                before = sum(self.join.drops.values())
                assert self.join.raise_epoch(epoch) == sum(self.join.drops.values()) - before
            case "drain":
                self.found += drain(self.join)
            case _:
                joined = self.join.pop()
                self.found += [] if joined is None else [joined]

    def members(self) -> list[Packet]:
        return [p for joined in self.found for packets in joined.packets.values() for p in packets]


@pytest.mark.parametrize("spec", SPECS + LIMITED, ids=repr)
@given(steps=TROUBLE)
def test_every_packet_is_accounted_for_at_every_moment_and_what_is_held_is_bounded(
    spec: Any, steps: list[tuple[str, str, int, int]]
) -> None:
    run = Run(spec)
    for step in steps:
        run.step(*step)
        assert run.pushed == run.join.pushed == run.join.held + run.join.delivered + sum(run.join.drops.values())
        assert 0 <= run.join.held <= spec.capacity * len(PORTS)
    for port in PORTS:
        run.join.close(port)
    run.found += drain(run.join)
    assert (run.join.held, run.join.delivered) == (0, len({p.seq for p in run.members()}))


@pytest.mark.parametrize("spec", SPECS + LIMITED, ids=repr)
@given(steps=TROUBLE)
def test_nothing_stale_is_delivered_epochs_never_mix_and_sets_come_in_order_of_time(
    spec: JoinSpec, steps: list[tuple[str, str, int, int]]
) -> None:
    run = Run(spec)
    for step in steps:
        before = len(run.found)
        run.step(*step)
        for joined in run.found[before:]:
            epochs = {p.epoch for packets in joined.packets.values() for p in packets} - {AMBIENT}
            assert len(epochs) <= 1
            assert all(epoch >= run.floor for epoch in epochs)
    times = [joined.time for joined in run.found]
    assert times == sorted(times)


@pytest.mark.parametrize("spec", SPECS + LIMITED, ids=repr)
@given(steps=TROUBLE)
def test_a_join_that_moves_at_every_step_does_as_one_that_stays(
    spec: JoinSpec, steps: list[tuple[str, str, int, int]]
) -> None:
    stayed, moved = Run(spec), Run(spec)
    for step in steps:
        fresh = spec.start(PORTS)
        fresh.restore(moved.join.snapshot())
        moved.join = fresh
        stayed.step(*step)
        moved.step(*step)
        assert moved.join.snapshot() == stayed.join.snapshot()
    assert moved.found == stayed.found
