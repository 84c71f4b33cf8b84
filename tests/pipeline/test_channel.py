from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg import AMBIENT, Channel, Drop, Packet, Policy, ThalwegError, Token
from thalweg.pipeline.channel import Push
from thalweg.pipeline.errors import ChannelClosed


def packet(seq: int, *, time: int = 0, epoch: int = AMBIENT, deadline: int | None = None) -> Packet:
    return Packet(stream="a.out", seq=seq, time=time, epoch=epoch, deadline=deadline, payload=Token(text=str(seq)))


def drain(channel: Channel, now_ns: int = 0) -> list[int]:
    return [taken.seq for taken in iter(lambda: channel.pop(now_ns), None)]


def test_block_channel_refuses_when_full_and_loses_nothing() -> None:
    channel = Channel(policy=Policy.BLOCK, capacity=2)
    outcomes = [channel.push(packet(seq), 0) for seq in range(3)]
    assert outcomes == [Push.QUEUED, Push.QUEUED, Push.FULL]
    assert drain(channel) == [0, 1]


def test_drop_oldest_channel_keeps_the_newest_and_counts_the_rest() -> None:
    channel = Channel(policy=Policy.DROP_OLDEST, capacity=2)
    for seq in range(5):
        channel.push(packet(seq), 0)
    assert channel.stats.drops[Drop.OVERFLOW] == 3
    assert drain(channel) == [3, 4]


def test_latest_channel_keeps_only_the_newest_packet_and_counts_the_rest() -> None:
    channel = Channel(policy=Policy.LATEST, capacity=50)
    for seq in range(5):
        channel.push(packet(seq), 0)
    assert channel.stats.drops[Drop.SUPERSEDED] == 4
    assert drain(channel) == [4]


def test_packet_that_grows_too_old_in_the_queue_is_dropped_on_the_way_out() -> None:
    channel = Channel(max_age_ns=100)
    channel.push(packet(0, time=0), 50)
    channel.push(packet(1, time=90), 90)
    assert drain(channel, now_ns=101) == [1]
    assert channel.stats.drops[Drop.EXPIRED] == 1


def test_packet_is_delivered_at_its_deadline_and_dropped_after_it() -> None:
    channel = Channel()
    channel.push(packet(0, deadline=9), 0)
    channel.push(packet(1, deadline=10), 0)
    assert drain(channel, now_ns=10) == [1]
    assert channel.stats.drops[Drop.DEADLINE] == 1


def test_interrupt_drops_older_epochs_but_not_ambient_packets() -> None:
    channel = Channel()
    for seq, epoch in enumerate([1, AMBIENT, 2]):
        channel.push(packet(seq, epoch=epoch), 0)
    assert channel.raise_epoch(2) == 1
    assert drain(channel) == [1, 2]


def test_stale_packet_does_not_wait_for_room_in_a_full_block_channel() -> None:
    channel = Channel(capacity=1)
    channel.raise_epoch(2)
    channel.push(packet(0, epoch=2), 0)
    assert channel.push(packet(1, epoch=1), 0) is Push.DROPPED


def test_closed_channel_delivers_what_was_queued_and_then_ends() -> None:
    channel = Channel()
    channel.push(packet(0), 0)
    channel.close()
    channel.close()
    assert not channel.closed
    assert drain(channel) == [0]
    assert channel.closed


def test_push_after_the_end_of_stream_names_the_stream() -> None:
    channel = Channel()
    channel.close()
    with pytest.raises(ChannelClosed, match=r"packet 7 of a\.out"):
        channel.push(packet(7), 0)


@pytest.mark.parametrize("arguments", [{"capacity": 0}, {"capacity": -1}, {"max_age_ns": 0}])
def test_impossible_channel_is_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(ThalwegError, match="expected"):
        Channel(**arguments)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(0, 4)),
        st.tuples(st.just("pop"), st.just(0)),
        st.tuples(st.just("epoch"), st.integers(0, 4)),
        st.tuples(st.just("wait"), st.integers(0, 40)),
    ),
    max_size=60,
)


@given(policy=st.sampled_from(Policy), capacity=st.integers(1, 4), steps=steps)
def test_drops_add_up_order_holds_and_nothing_stale_or_expired_is_delivered(
    policy: Policy, capacity: int, steps: list[tuple[str, int]]
) -> None:
    channel = Channel(policy=policy, capacity=capacity, max_age_ns=50)
    now = accepted = newest = 0
    delivered: list[int] = []
    for seq, (event, argument) in enumerate(steps):
        match event:
            case "push":
                accepted += channel.push(packet(seq, time=now, epoch=argument), now) is not Push.FULL
            case "pop":
                taken = channel.pop(now)
                if taken is not None:
                    assert taken.epoch == AMBIENT or taken.epoch >= newest
                    assert now - taken.time <= 50
                    delivered.append(taken.seq)
            case "epoch":
                newest = max(newest, argument)
                channel.raise_epoch(argument)
            case _:
                now += argument
        stats = channel.stats
        assert stats.pushed == accepted == stats.popped + stats.depth + sum(stats.drops.values())
        assert stats.depth <= stats.max_depth <= channel.capacity
        assert policy is not Policy.BLOCK or not stats.drops[Drop.OVERFLOW] + stats.drops[Drop.SUPERSEDED]
    assert delivered == sorted(delivered)
