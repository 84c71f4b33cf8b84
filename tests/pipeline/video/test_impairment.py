"""A bad network, to the nanosecond: what comes out of it, when, and an account of what does not."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.video.impairment import Burst, Impairment, Link, Loss

MS = 1_000_000
S = 1_000_000_000


def drain(link: Impairment[int]) -> list[tuple[int, int]]:
    """`(time, item)` of everything that is still inside, popped exactly when the link says so."""
    arrived = []
    while (now_ns := link.next_ns) is not None:
        while (item := link.pop(now_ns)) is not None:
            arrived.append((now_ns, item))
    return arrived


def send(link: Impairment[int], times_ns: list[int], size: int = 1000) -> list[tuple[int, int]]:
    """Push a packet at each time; `(time, item)` of what arrives."""
    arrived = []
    for number, time_ns in enumerate(times_ns):
        while link.next_ns is not None and link.next_ns <= time_ns:
            now_ns = link.next_ns
            while (item := link.pop(now_ns)) is not None:
                arrived.append((now_ns, item))
        link.push(number, size, time_ns)
    return arrived + drain(link)


def test_a_perfect_link_delivers_at_once_and_a_delay_delays() -> None:
    assert send(Impairment(Link()), [0, 5]) == [(0, 0), (5, 1)]
    assert send(Impairment(Link(delay_ms=20)), [0, 5]) == [(20 * MS, 0), (20 * MS + 5, 1)]


def test_packets_leave_one_after_another_at_the_rate() -> None:
    assert send(Impairment(Link(rate=8e6)), [0, 0, 10 * MS]) == [(1 * MS, 0), (2 * MS, 1), (11 * MS, 2)]


def test_a_trace_changes_the_rate_in_the_middle_of_a_packet_and_starts_again() -> None:
    link = Impairment(Link(trace=((0.5e-3, 8e6), (10e-3, 0), (0.5e-3, 8e6))))
    assert send(link, [0, 0]) == [(11 * MS, 0), (22 * MS, 1)]


def test_a_full_queue_loses_the_packet_that_comes() -> None:
    link = Impairment(Link(rate=8e6, queue_bytes=2500))
    assert [link.push(n, 1000, 0) for n in range(4)] == [None, None, Loss.OVERFLOW, Loss.OVERFLOW]
    assert [item for _, item in drain(link)] == [0, 1]


def test_what_is_sent_during_an_outage_is_lost_and_what_is_on_the_wire_arrives() -> None:
    link = Impairment(Link(delay_ms=50, outages=((1, 2),)))
    assert [item for _, item in send(link, [990 * MS, 1 * S, 2999 * MS, 3 * S])] == [0, 3]
    assert link.lost[Loss.OUTAGE] == 2


def test_random_loss_takes_its_share() -> None:
    link = Impairment(Link(loss=0.1), seed=1)
    send(link, [n * MS for n in range(20_000)])
    assert 0.09 < link.lost[Loss.RANDOM] / 20_000 < 0.11


def test_loss_comes_in_bursts_of_the_declared_share_and_length() -> None:
    link = Impairment(Link(burst=Burst(enter=0.02, leave=0.25)), seed=2)
    lost = [link.push(n, 100, n * MS) is Loss.BURST for n in range(50_000)]
    bursts = sum(lost[i] and not lost[i - 1] for i in range(1, len(lost)))
    assert 0.065 < sum(lost) / len(lost) < 0.083
    assert 3.7 < sum(lost) / bursts < 4.3


def test_a_late_packet_is_overtaken_by_those_behind_it() -> None:
    link = Impairment(Link(delay_ms=5, reorder=0.2, reorder_ms=30), seed=3)
    arrived = send(link, [n * MS for n in range(1000)])
    late = [(time, n) for time, n in arrived if time - n * MS == 35 * MS]
    assert len(arrived) == 1000 and 150 < len(late) < 250
    assert [n for _, n in arrived] != sorted(n for _, n in arrived)
    on_time = [n for time, n in arrived if time - n * MS == 5 * MS]
    assert len(on_time) + len(late) == 1000 and on_time == sorted(on_time)


def test_jitter_has_its_deviation_and_keeps_order() -> None:
    link = Impairment(Link(delay_ms=100, jitter_ms=10), seed=4)
    arrived = send(link, [n * 100 * MS for n in range(4000)])
    delays = [(time - n * 100 * MS) / MS for time, n in arrived]
    mean = sum(delays) / len(delays)
    deviation = (sum((d - mean) ** 2 for d in delays) / len(delays)) ** 0.5
    assert 99 < mean < 101 and 9 < deviation < 11
    dense = send(Impairment(Link(delay_ms=100, jitter_ms=10), seed=4), [n * 100_000 for n in range(4000)])
    assert [n for _, n in dense] == list(range(4000))


def test_dense_packets_are_delayed_alike_and_not_ever_longer() -> None:
    arrived = send(Impairment(Link(delay_ms=100, jitter_ms=10), seed=5), [n * 100_000 for n in range(50_000)])
    delays = [(time - n * 100_000) / MS for time, n in arrived]
    assert sum(delays) / len(delays) < 108
    assert max(abs(a - b) for a, b in pairwise(delays)) < 10


def test_a_link_can_change_while_packets_wait() -> None:
    link = Impairment(Link(rate=8e3))
    link.push(0, 1000, 0)
    link.push(1, 1000, 0)
    link.change(Link(rate=8e6), 500 * MS)
    assert drain(link) == [(500_500_000, 0), (501_500_000, 1)]


def test_a_link_that_is_freed_of_its_rate_lets_everything_out() -> None:
    link = Impairment(Link(rate=8e3))
    for n in range(3):
        link.push(n, 1000, 0)
    link.change(Link(delay_ms=1), 5 * MS)
    assert drain(link) == [(6 * MS, 0), (6 * MS, 1), (6 * MS, 2)]


LINKS = st.builds(
    Link,
    delay_ms=st.floats(0, 50),
    jitter_ms=st.floats(0, 10),
    loss=st.floats(0, 0.5),
    burst=st.none() | st.builds(Burst, enter=st.floats(0, 1), leave=st.floats(0, 1)),
    reorder=st.floats(0, 0.5),
    rate=st.none() | st.floats(1e5, 1e8),
    trace=st.lists(st.tuples(st.floats(1e-4, 0.1), st.floats(1e4, 1e8)), max_size=4).map(tuple),
    queue_bytes=st.integers(0, 20_000),
    outages=st.lists(st.tuples(st.floats(0, 0.2), st.floats(1e-3, 0.1)), max_size=2).map(tuple),
)
PUSHES = st.lists(st.tuples(st.integers(0, 5 * MS), st.integers(20, 1500)), min_size=1, max_size=80)


@settings(max_examples=150, deadline=None)
@given(LINKS, LINKS, PUSHES, st.integers())
def test_every_packet_comes_out_once_or_is_accounted_for_and_runs_repeat(
    first: Link, second: Link, pushes: list[tuple[int, int]], seed: int
) -> None:
    def run() -> list[tuple[int, int]]:
        link: Impairment[int] = Impairment(first, seed)
        now_ns, arrived = 0, []
        for number, (gap_ns, size) in enumerate(pushes):
            now_ns += gap_ns
            while (item := link.pop(now_ns)) is not None:
                arrived.append((now_ns, item))
            if number == len(pushes) // 2:
                link.change(second, now_ns)
            link.push(number, size, now_ns)
            assert link.pushed == link.delivered + len(link) + sum(link.lost.values())
        arrived += drain(link)
        assert len({item for _, item in arrived}) == len(arrived)
        assert link.pushed == len(arrived) + sum(link.lost.values())
        return arrived

    assert run() == run()


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.floats(1e-3, 0.05), st.floats(0, 1e7)), min_size=1, max_size=5), PUSHES)
def test_no_more_is_transmitted_than_the_trace_allows(
    trace: list[tuple[float, float]], pushes: list[tuple[int, int]]
) -> None:
    trace = [*trace, (0.01, 1e5)]
    link: Impairment[int] = Impairment(Link(trace=tuple(trace), queue_bytes=10**9))
    for number, (_, size) in enumerate(pushes):
        link.push(number, size, 0)
    sizes = [size for _, size in pushes]
    done_ns = drain(link)[-1][0]
    period_ns = sum(round(s * S) for s, _ in trace)

    def capacity(until_ns: int) -> int:
        periods, rest = divmod(until_ns, period_ns)
        total = periods * sum(round(s * S) * round(bps) for s, bps in trace)
        for s, bps in trace:
            total += min(rest, round(s * S)) * round(bps)
            rest -= min(rest, round(s * S))
        return total

    wasted = len(sizes) * max(round(bps) for _, bps in trace)  # a packet ends within a nanosecond, the rest is lost
    assert 0 <= capacity(done_ns) - 8 * sum(sizes) * S <= wasted


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"loss": 1.5}, "loss is 1.5, expected a share"),
        ({"delay_ms": -1}, "delay_ms is -1"),
        ({"rate": 0}, "rate is 0"),
        ({"trace": ((1, 0),)}, "nothing would ever arrive"),
        ({"trace": ((0, 5),)}, "seconds above 0"),
        ({"outages": ((1, 0),)}, "length above 0"),
    ],
)
def test_a_link_that_makes_no_sense_is_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ThalwegError, match=says):
        Link(**wrong)
