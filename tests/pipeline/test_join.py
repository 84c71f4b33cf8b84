"""Joins: the right packets meet whatever order their ports are served in, and every packet is accounted for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.deploy.testing import packet, run_stage
from thalweg.pipeline.join import Exact, Join, JoinDrop, Joined, Joiner, JoinError, Latest, Nearest, Window
from thalweg.pipeline.packet import AMBIENT, Packet
from thalweg.pipeline.payload import Token
from thalweg.pipeline.stage import Context

PORTS = ("a", "b")
Set = tuple[int, int, tuple[tuple[str, tuple[int, ...]], ...]]


def make(port: str, time: int, epoch: int = AMBIENT) -> Packet:
    return Packet(stream=port, seq=time, time=time, payload=Token(text=f"{port}{time}"), epoch=epoch)


def plain(joined: Joined) -> Set:
    return (
        joined.time,
        joined.epoch,
        tuple((p, tuple(x.time for x in found)) for p, found in sorted(joined.packets.items())),
    )


def drain(joiner: Joiner) -> list[Set]:
    found = []
    while (joined := joiner.pop()) is not None:
        found.append(plain(joined))
    return found


def feed(join: Join, events: list[tuple[str, int, int]], *, split: int | None = None) -> tuple[list[Set], Joiner]:
    """Push events one by one, popping after each, then close; with `split`, move to a new joiner before that event."""
    joiner = join.start(PORTS)
    found = []
    for i, (port, time, epoch) in enumerate(events):
        if i == split:
            moved = join.start(PORTS)
            moved.restore(joiner.snapshot())
            joiner = moved
        joiner.push(port, make(port, time, epoch))
        found += drain(joiner)
    for port in PORTS:
        joiner.close(port)
    return found + drain(joiner), joiner


def times(join: Join, events: str) -> list[str]:
    """`"a1 b2"` → sets as `"a1+b2"`."""
    given_events = [(word[0], int(word[1:]), AMBIENT) for word in events.split()]
    return ["+".join(f"{p}{t}" for p, ts in members for t in ts) for _, _, members in feed(join, given_events)[0]]


@pytest.mark.parametrize(
    ("join", "events", "expected"),
    [
        (Exact(), "a1 a2 a3 b2 b3 b4", ["a2+b2", "a3+b3"]),
        (Nearest(reference="a", tolerance_ns=3), "a10 b8 b11 b15 a20 b22 b30", ["a10+b11", "a20+b22"]),
        (Nearest(reference="a", tolerance_ns=3), "a10 b9 b11 a30 b40", ["a10+b9"]),
        (Nearest(reference="a", tolerance_ns=5), "a10 a12 b11 b20", ["a10+b11", "a12+b11"]),
        (Latest(trigger="a"), "a1 b2 a3 a4 b5 b6 a7", ["a3+b2", "a4+b2", "a7+b6"]),
        (Window(size_ns=10), "a1 b2 a5 b11 a12 b25 a26", ["a1+a5+b2", "a12+b11", "a26+b25"]),
        (Window(size_ns=10, hop_ns=5), "a1 b6 a11 b12", ["a1", "a1+b6", "a11+b6+b12", "a11+b12"]),
    ],
)
def test_what_meets_what(join: Join, events: str, expected: list[str]) -> None:
    assert times(join, events) == expected


def test_a_decision_does_not_wait_longer_than_it_must() -> None:
    joiner = Nearest(reference="a", tolerance_ns=5).start(PORTS)
    joiner.push("a", make("a", 10))
    joiner.push("b", make("b", 8))
    assert joiner.pop() is None
    joiner.watermark("b", 12)
    joined = joiner.pop()
    assert joined is not None
    assert plain(joined) == (10, 0, (("a", (10,)), ("b", (8,))))


def test_a_port_that_lags_is_not_waited_for_beyond_patience() -> None:
    joiner = Window(size_ns=10, patience_ns=15).start(PORTS)
    joiner.push("b", make("b", 0))
    joiner.push("a", make("a", 5))
    assert joiner.pop() is None
    joiner.push("a", make("a", 25))
    joined = joiner.pop()
    assert joined is not None
    assert joined.time == 0


def test_a_packet_before_the_watermark_is_late() -> None:
    joiner = Exact().start(PORTS)
    joiner.push("a", make("a", 10))
    joiner.push("a", make("a", 9))
    assert joiner.drops[JoinDrop.LATE] == 1


def test_a_silent_port_cannot_make_memory_grow() -> None:
    joiner = Exact(capacity=8).start(PORTS)
    for time in range(100):
        joiner.push("a", make("a", time))
    assert (joiner.depth, joiner.drops[JoinDrop.OVERFLOW]) == (8, 92)


def test_an_interrupt_drops_what_is_held_of_older_epochs() -> None:
    joiner = Exact().start(PORTS)
    joiner.push("a", make("a", 1, epoch=1))
    joiner.push("b", make("b", 0))
    joiner.raise_epoch(2)
    joiner.push("a", make("a", 2, epoch=1))
    assert (joiner.drops[JoinDrop.STALE], joiner.depth) == (2, 1)


@pytest.mark.parametrize(
    "join",
    [Nearest(reference="c", tolerance_ns=1), Latest(trigger="c"), Window(size_ns=5, hop_ns=6), Window(size_ns=0)],
)
def test_a_join_that_makes_no_sense_is_refused(join: Join) -> None:
    with pytest.raises(JoinError):
        join.start(PORTS)


STREAM = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 2)), max_size=25).map(
    lambda s: sorted(s, key=lambda x: x[0])
)
JOINS = st.sampled_from(
    [
        Exact(),
        Nearest(reference="a", tolerance_ns=4),
        Latest(trigger="a"),
        Window(size_ns=7),
        Window(size_ns=9, hop_ns=4),
        Exact(capacity=3),
        Window(size_ns=5, patience_ns=10),
    ]
)


@st.composite
def interleaved(draw: st.DrawFn) -> list[tuple[str, int, int]]:
    """Two streams, each in order, mixed in any way."""
    streams = {port: [(port, *entry) for entry in draw(STREAM)] for port in PORTS}
    order = draw(st.permutations([p for p in PORTS for _ in streams[p]]))
    return [streams[port].pop(0) for port in order]


@given(JOINS, interleaved())
def test_every_packet_is_accounted_for_at_every_moment(join: Join, events: list[tuple[str, int, int]]) -> None:
    joiner = join.start(PORTS)
    for n, (port, time, epoch) in enumerate(events, 1):
        joiner.push(port, make(port, time, epoch))
        drain(joiner)
        assert n == joiner.pushed == joiner.depth + joiner.delivered + sum(joiner.drops.values())
    _, ended = feed(join, events)
    assert ended.depth == 0
    assert ended.pushed == ended.delivered + sum(ended.drops.values())


@given(JOINS, interleaved(), st.integers(0, 50))
def test_a_joiner_that_moved_in_between_gives_what_it_would_have_given(
    join: Join, events: list[tuple[str, int, int]], split: int
) -> None:
    assert feed(join, events, split=split)[0] == feed(join, events)[0]


@given(
    st.sampled_from([Exact(), Nearest(reference="a", tolerance_ns=4), Window(size_ns=7), Window(size_ns=9, hop_ns=4)]),
    interleaved(),
    st.randoms(use_true_random=False),
)
def test_the_order_in_which_ports_are_served_makes_no_difference(
    join: Join, events: list[tuple[str, int, int]], random: Any
) -> None:
    rest = {port: [event for event in events if event[0] == port] for port in PORTS}
    order = [event[0] for event in events]
    random.shuffle(order)
    assert feed(join, [rest[port].pop(0) for port in order])[0] == feed(join, events)[0]


@given(JOINS, interleaved())
def test_packets_of_two_epochs_never_meet(join: Join, events: list[tuple[str, int, int]]) -> None:
    joiner = join.start(PORTS)
    for port, time, epoch in events:
        joiner.push(port, make(port, time, epoch))
        while (joined := joiner.pop()) is not None:
            assert len({p.epoch for members in joined.packets.values() for p in members} - {AMBIENT}) <= 1


@given(interleaved())
def test_nearest_agrees_with_looking_at_everything(events: list[tuple[str, int, int]]) -> None:
    every = {port: [(t, e) for p, t, e in events if p == port] for port in PORTS}
    expected = []
    for time, epoch in every["a"]:
        near = [t for t, e in every["b"] if abs(t - time) <= 4 and (e == epoch or AMBIENT in (e, epoch))]
        if near:
            expected.append((time, min(near, key=lambda t: (abs(t - time), t))))
    found = [
        (members[0][1][0], members[1][1][0])
        for _, _, members in feed(Nearest(reference="a", tolerance_ns=4), events)[0]
    ]
    assert found == expected


class Pair:
    """Joins two token streams and says what met."""

    inputs = {"a": Token, "b": Token}
    outputs = {"text": Token}
    join = Nearest(reference="a", tolerance_ns=5)

    def process_joined(self, joined: Joined, ctx: Context) -> None:
        a, b = joined.one("a").payload, joined.one("b").payload
        assert isinstance(a, Token)
        assert isinstance(b, Token)
        ctx.emit(Token(text=a.text + b.text))


def test_a_stage_with_a_join_is_given_sets_and_emits_at_the_time_of_the_reference() -> None:
    feeds = {
        "a": [packet(Token(text=f"a{t}"), time=t) for t in (10, 20)],
        "b": [packet(Token(text=f"b{t}"), time=t) for t in (12, 23, 40)],
    }
    outcome = run_stage(Pair(), feeds)
    assert [(e.packet.time, e.payload.text) for e in outcome.emitted] == [(10, "a10b12"), (20, "a20b23")]  # type: ignore[attr-defined]
    assert outcome.problems == []
