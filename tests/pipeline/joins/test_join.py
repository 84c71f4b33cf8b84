"""Joins by example: which packets meet, when that is decided, what is dropped and why."""

from __future__ import annotations

import pytest

from thalweg.deploy.testing import packet, run_stage
from thalweg.pipeline.joins.join import (
    Exact,
    Join,
    JoinDrop,
    JoinError,
    JoinSpec,
    Latest,
    Nearest,
    PacketSet,
    Window,
)
from thalweg.pipeline.packet import AMBIENT, Packet
from thalweg.pipeline.payload import Token
from thalweg.pipeline.stage import Context


def push(join: Join, events: str) -> None:
    """`"a1 b2/3"`: at 1 on port a, at 2 on port b of epoch 3."""
    for word in events.split():
        time, _, epoch = word[1:].partition("/")
        payload = Token(text=word)
        join.push(word[0], Packet(stream=word[0], seq=0, time=int(time), payload=payload, epoch=int(epoch or AMBIENT)))


def text(joined: PacketSet) -> str:
    return "+".join(p.payload.text for port in sorted(joined.packets) for p in joined.packets[port])  # type: ignore[attr-defined]


def drain(join: Join) -> list[str]:
    return [text(joined) for joined in iter(join.pop, None)]


def started(spec: JoinSpec, events: str, ports: str = "ab") -> Join:
    join = spec.start(ports)
    push(join, events)
    return join


def whole(spec: JoinSpec, events: str, ports: str = "ab") -> list[str]:
    join = started(spec, events, ports)
    for port in ports:
        join.close(port)
    return drain(join)


@pytest.mark.parametrize(
    ("spec", "events", "expected"),
    [
        (Exact(), "a1 a2 a3 b2 b3 b4", ["a2+b2", "a3+b3"]),
        (Exact(), "a1/1 a1/2 b1/2", ["a1/2+b1/2"]),
        (Nearest(reference="a", tolerance_ns=3), "a10 b8 b11 b15 a20 b22 b30", ["a10+b11", "a20+b22"]),
        (Nearest(reference="a", tolerance_ns=3), "a10 b9 b11 a30 b40", ["a10+b9"]),
        (Nearest(reference="a", tolerance_ns=5), "a10 a12 b11 b20", ["a10+b11", "a12+b11"]),
        (Nearest(reference="a", tolerance_ns=5), "a10/2 b8/2 b10/1 b20", ["a10/2+b8/2"]),
        (Latest(trigger="a"), "a1 b2 a3 a4 b5 b6 a7", ["a3+b2", "a4+b2", "a7+b6"]),
        (Latest(trigger="a"), "b2 b5 a3 a5", ["a3+b2", "a5+b5"]),
        (Latest(trigger="a"), "b1/1 b2 a3/1 b4/1 a5", ["a3/1+b2", "a5+b4/1"]),
        (Latest(), "a1 b2 a3 b3 a5", ["a1+b2", "a3+b3", "a5+b3"]),
        (Window(size_ns=10), "a1 b2 a5 b11 a12 b25 a26", ["a1+a5+b2", "a12+b11", "a26+b25"]),
        (Window(size_ns=10, hop_ns=5), "a1 b6 a11 b12", ["a1", "a1+b6", "a11+b6+b12", "a11+b12"]),
        (Window(size_ns=10), "a1/1 a2 b3 a4/2", ["a1/1+a2+b3", "a2+a4/2+b3"]),
    ],
)
def test_what_meets_what(spec: JoinSpec, events: str, expected: list[str]) -> None:
    assert whole(spec, events) == expected


def test_a_packet_of_an_older_epoch_is_in_every_overlapping_window_it_lies_in() -> None:
    expected = ["a4/1", "a4/1+b7/1", "b8/2", "b7/1", "b8/2"]
    assert whole(Window(size_ns=10, hop_ns=5), "a4/1 b7/1 b8/2") == expected


@pytest.mark.parametrize("spec", [Nearest(reference="a", tolerance_ns=5), Latest(trigger="a")])
def test_an_ambient_packet_that_leads_brings_no_two_epochs_together(spec: JoinSpec) -> None:
    assert whole(spec, "b1/1 c2/2 a3", "abc") == []
    assert whole(spec, "b1/1 b2/2 c2/2 a3", "abc") == ["a3+b2/2+c2/2"]


@pytest.mark.parametrize(
    ("spec", "undecided", "decisive", "expected"),
    [
        (Exact(), "a10", "b10", "a10+b10"),
        (Nearest(reference="a", tolerance_ns=5), "a10 b8", "b12", "a10+b8"),
        (Nearest(reference="a", tolerance_ns=5), "a10 b8", "b11", "a10+b11"),
        (Nearest(reference="a", tolerance_ns=5), "a10", "b10", "a10+b10"),
        (Latest(trigger="a"), "b8 a10", "b11", "a10+b8"),
        (Latest(trigger="a"), "b8 a10", "b10", "a10+b10"),
        (Window(size_ns=10), "a3 b4 a10", "b10", "a3+b4"),
    ],
)
def test_a_set_is_given_out_with_the_packet_that_decides_it(
    spec: JoinSpec, undecided: str, decisive: str, expected: str
) -> None:
    join = started(spec, undecided)
    assert join.pop() is None
    push(join, decisive)
    assert drain(join) == [expected]


@pytest.mark.parametrize(
    ("spec", "events", "too_early", "in_time"),
    [
        (Nearest(reference="a", tolerance_ns=5), "a10 b8", 11, 12),
        (Latest(trigger="a"), "b8 a10", 10, 11),
        (Window(size_ns=10), "b3 a10", 9, 10),
    ],
)
def test_a_watermark_decides_as_a_packet_of_its_time_would_and_no_earlier(
    spec: JoinSpec, events: str, too_early: int, in_time: int
) -> None:
    join = started(spec, events)
    join.watermark("b", too_early)
    assert join.pop() is None
    join.watermark("b", in_time)
    assert join.pop() is not None


def test_an_exact_packet_is_dropped_once_a_watermark_has_passed_it_and_no_earlier() -> None:
    join = started(Exact(), "a10")
    join.watermark("b", 10)
    assert (join.pop(), join.held) == (None, 1)
    join.watermark("b", 11)
    assert (join.pop(), join.held, join.drops[JoinDrop.UNMATCHED]) == (None, 0, 1)


def test_a_reference_without_a_partner_is_dropped_once_none_can_come() -> None:
    join = started(Nearest(reference="a", tolerance_ns=5), "a10")
    join.watermark("b", 15)
    assert (join.pop(), join.held) == (None, 1)
    join.watermark("b", 16)
    assert (join.pop(), join.held, join.drops[JoinDrop.UNMATCHED]) == (None, 0, 1)


def test_a_watermark_never_goes_back() -> None:
    join = Exact().start("ab")
    join.watermark("a", 10)
    join.watermark("a", 5)
    push(join, "a7")
    assert join.drops[JoinDrop.LATE] == 1


def test_a_packet_out_of_order_or_after_the_end_is_late_and_one_of_equal_time_is_not() -> None:
    join = started(Exact(), "a10 a9 a10")
    join.close("a")
    join.close("a")
    push(join, "a20")
    assert (join.drops[JoinDrop.LATE], join.held) == (2, 2)


def test_a_partner_that_served_several_references_counts_once() -> None:
    join = started(Nearest(reference="a", tolerance_ns=5), "a10 a12 b11 b30 a40")
    assert drain(join) == ["a10+b11", "a12+b11"]
    assert (join.pushed, join.delivered, join.held, join.drops[JoinDrop.UNMATCHED]) == (5, 3, 1, 1)


@pytest.mark.parametrize(
    "spec",
    [
        Exact(capacity=8),
        Nearest(reference="a", tolerance_ns=5, capacity=8),
        Nearest(reference="b", tolerance_ns=5, capacity=8),
        Latest(trigger="a", capacity=8),
        Latest(capacity=8),
        Window(size_ns=10, capacity=8),
    ],
)
def test_a_silent_port_cannot_make_memory_grow(spec: JoinSpec) -> None:
    join = started(spec, " ".join(f"a{time}" for time in range(100)))
    assert (drain(join), join.held, join.drops[JoinDrop.OVERFLOW]) == ([], 8, 92)


def test_a_latest_join_keeps_two_packets_per_port_however_many_turns_pass() -> None:
    join = started(Latest(trigger="a"), "b0 " + " ".join(f"b{turn}/{turn}" for turn in range(1, 100)))
    join.watermark("a", 100)
    join.watermark("b", 100)
    assert (join.pop(), join.held) == (None, 2)


def test_a_port_that_lags_is_not_waited_for_beyond_patience() -> None:
    join = started(Window(size_ns=10, patience_ns=15), "b0 a5 a24")
    assert join.pop() is None
    push(join, "a25")
    assert drain(join) == ["a5+b0"]
    push(join, "b9")
    assert join.drops[JoinDrop.LATE] == 1


def test_the_end_of_the_foremost_port_takes_back_nothing_that_patience_gave_up() -> None:
    join = started(Exact(patience_ns=10), "a100")
    join.close("a")
    push(join, "b89")
    assert join.drops[JoinDrop.LATE] == 1


def test_an_interrupt_drops_what_is_held_of_older_epochs_and_what_still_comes_of_them() -> None:
    join = started(Exact(), "a1/1 a2/2 b0")
    assert join.raise_epoch(2) == 1
    assert join.raise_epoch(1) == 0
    push(join, "a3/1")
    assert (join.drops[JoinDrop.STALE], join.held) == (2, 2)


def test_an_interrupt_in_the_middle_of_a_window_gives_its_ambient_packets_out_once() -> None:
    join = started(Window(size_ns=10), "a1/1 a2 a3/2 a15 b15")
    first = join.pop()
    assert first is not None
    assert (text(first), join.raise_epoch(3), join.pop()) == ("a1/1+a2", 1, None)


def test_a_set_has_the_reference_s_time_and_trace_the_turn_s_epoch_and_the_earliest_deadline() -> None:
    join = Nearest(reference="b", tolerance_ns=5).start("ab")
    payload = Token(text="x")
    join.push("a", Packet(stream="a", seq=0, time=9, epoch=4, payload=payload, trace="of a", deadline=70))
    join.push("b", Packet(stream="b", seq=0, time=10, payload=payload, trace="of b", deadline=80))
    join.close("a")
    joined = join.pop()
    assert joined is not None
    assert (joined.time, joined.epoch, joined.trace, joined.deadline) == (10, 4, "of b", 70)
    assert joined.one("a").time == 9


@pytest.mark.parametrize(
    "declare",
    [
        lambda: Nearest(reference="c", tolerance_ns=1).start("ab"),
        lambda: Latest(trigger="c").start("ab"),
        lambda: Exact().start(""),
        lambda: Exact().start("aa"),
        lambda: Nearest(reference="a", tolerance_ns=-1),
        lambda: Window(size_ns=5, hop_ns=6),
        lambda: Window(size_ns=0),
        lambda: Exact(capacity=0),
        lambda: Latest(patience_ns=-1),
    ],
)
def test_a_join_that_makes_no_sense_is_refused(declare: type) -> None:
    with pytest.raises(JoinError, match="expected"):
        declare()


def test_a_port_that_is_none_of_the_join_s_is_refused_by_name() -> None:
    with pytest.raises(JoinError, match="'c', expected a, b"):
        push(Exact().start("ab"), "c1")


def test_a_snapshot_of_a_join_declared_otherwise_is_refused_and_changes_nothing() -> None:
    join = started(Exact(), "a1")
    with pytest.raises(JoinError, match="declared alike"):
        join.restore(Exact(capacity=2).start("ab").snapshot())
    assert join.held == 1


def test_a_snapshot_is_not_changed_by_what_happens_afterwards() -> None:
    join = started(Nearest(reference="a", tolerance_ns=5), "a10")
    state = join.snapshot()
    push(join, "b10")
    assert drain(join) == ["a10+b10"]
    join.restore(state)
    assert (join.held, join.pushed, join.pop()) == (1, 1, None)


class Pair:
    """Joins two token streams and says what met."""

    inputs = {"a": Token, "b": Token}
    outputs = {"text": Token}
    join = Nearest(reference="a", tolerance_ns=5)

    def process_joined(self, joined: PacketSet, ctx: Context) -> None:
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
