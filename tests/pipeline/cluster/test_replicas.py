"""What replicas make together comes out in the order of one: the decisions, without workers."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from thalweg.pipeline.cluster.replicas import END_INDEX, Dealer, Echoes, Reunion, seq_of
from thalweg.pipeline.payload import Numbered, Token
from thalweg.pipeline.signal import Bitrate, Interrupt


def item(index: int, number: int = 0) -> Numbered:
    return Numbered(index=index, item=number, payload=Token(text=f"{index}/{number}"))


def mark(index: int) -> Numbered:
    return Numbered(index=index)


def pause(index: int) -> Numbered:
    return Numbered(index=index, item=-1)


@dataclass
class Behind:
    """A merger with what is under way to it from each replica. A replica that is `lost` comes back."""

    queues: list[deque[Numbered]]
    ended: list[bool]
    reunion: Reunion = field(default_factory=Reunion)
    passed: list[str] = field(default_factory=list)

    def work(self) -> None:
        while True:
            heads = [queue[0] if queue else None for queue in self.queues]
            ended = [end and not queue for end, queue in zip(self.ended, self.queues, strict=True)]
            chosen = self.reunion.choose(heads, ended)
            if chosen is None:
                return
            head = self.queues[chosen].popleft()
            if self.reunion.take(head):
                assert isinstance(head.payload, Token)
                self.passed.append(head.payload.text)


def behind(*queues: list[Numbered], ended: bool = False) -> Behind:
    made = Behind([deque(queue) for queue in queues], [ended] * len(queues))
    made.work()
    return made


def test_what_is_due_passes_at_once_and_what_is_ahead_waits() -> None:
    merger = behind([], [item(1), mark(1)])
    assert merger.passed == []
    merger.queues[0] += [item(0, 0)]
    merger.work()
    assert merger.passed == ["0/0"]
    merger.queues[0] += [item(0, 1), mark(0)]
    merger.work()
    assert merger.passed == ["0/0", "0/1", "1/0"]


def test_a_packet_that_gave_nothing_is_closed_by_its_mark() -> None:
    assert behind([mark(0), item(2), mark(2)], [mark(1)]).passed == ["2/0"]


def test_what_two_replicas_made_of_the_same_packet_passes_once() -> None:
    merger = behind([item(0, 0), item(0, 1), mark(0)], [item(0, 0), item(0, 1), mark(0), item(1), mark(1)])
    assert merger.passed == ["0/0", "0/1", "1/0"]
    assert merger.reunion.repeated == 2


def test_what_was_lost_with_a_replica_is_waited_for_until_every_replica_is_beyond_it() -> None:
    merger = behind([item(2), mark(2)], [mark(1)], [])
    assert merger.passed == []
    merger.queues[2] += [pause(3)]
    merger.work()
    assert (merger.passed, merger.reunion.lost) == (["2/0"], 1)


def test_a_pause_ends_nothing_that_another_replica_is_at() -> None:
    merger = behind([], [pause(1)])
    merger.queues[0] += [item(0), mark(0)]
    merger.work()
    assert (merger.passed, merger.reunion.lost) == (["0/0"], 0)


def test_a_replica_that_has_ended_is_not_waited_for() -> None:
    merger = behind([item(1), mark(1)], [item(2), mark(2)])
    merger.ended = [True, True]
    merger.work()
    assert merger.passed == ["1/0", "2/0"]


def test_what_is_given_at_the_end_comes_behind_everything_replica_by_replica() -> None:
    merger = behind([item(0), mark(0)], [item(1), mark(1), item(END_INDEX + 1)])
    assert merger.passed == ["0/0", "1/0"]
    merger.queues[0] += [item(END_INDEX), item(END_INDEX, 1)]
    merger.work()
    assert merger.passed[2:] == [f"{END_INDEX}/0", f"{END_INDEX}/1"]
    merger.ended = [True, True]
    merger.work()
    assert merger.passed[4:] == [f"{END_INDEX + 1}/0"]
    assert merger.reunion.lost == 0


@given(
    replicas=st.integers(1, 4),
    counts=st.lists(st.integers(0, 4), max_size=30),
    seed=st.integers(0, 1_000_000),
)
def test_with_any_delays_and_any_numbers_of_outputs_the_order_is_that_of_one(
    replicas: int, counts: list[int], seed: int
) -> None:
    chance = random.Random(seed)
    dealer = Dealer(replicas)
    to_come: list[list[Numbered]] = [[] for _ in range(replicas)]
    for index, count in enumerate(counts):
        replica = dealer.ready_one([chance.random() < 0.5 or i == 0 for i in range(replicas)])
        assert replica is not None
        to_come[replica] += [*(item(index, number) for number in range(count)), mark(index)]
        dealer.given(replica)
    merger = Behind([deque() for _ in range(replicas)], [False] * replicas)
    while any(to_come):
        arriving = chance.choice([queue for queue in to_come if queue])
        merger.queues[to_come.index(arriving)].append(arriving.pop(0))
        merger.work()
    assert merger.passed == [f"{index}/{number}" for index, count in enumerate(counts) for number in range(count)]
    assert (merger.reunion.lost, merger.reunion.repeated, merger.reunion.due) == (0, 0, len(counts))


def test_replicas_that_are_ready_take_turns() -> None:
    dealer = Dealer(3)
    given = []
    for ready in ([True, True, True], [True, True, True], [True, True, False], [False, False, True]):
        replica = dealer.ready_one(ready)
        assert replica is not None
        dealer.given(replica)
        given.append(replica)
    assert given == [0, 1, 0, 2]
    assert dealer.ready_one([False, False, False]) is None


def test_a_key_has_the_same_replica_in_every_process() -> None:
    assert [Dealer(4).of_key(key) for key in ("left", "right", 7, "7")] == [0, 0, 2, 2]


def test_an_index_that_is_given_out_again_goes_to_a_replica_that_will_not_take_it_for_repeated() -> None:
    dealer = Dealer(2)
    dealer.had(0, seq_of(item(5)))
    dealer.had(1, seq_of(mark(2)))
    dealer.index = 2
    assert (dealer.repeats, dealer.without()) == (True, [0, 1])
    dealer.index = 3
    assert (dealer.repeats, dealer.without()) == (True, [1])
    dealer.index = 6
    assert not dealer.repeats


def test_numbers_on_an_edge_rise_in_the_order_of_what_is_sent() -> None:
    sent = [item(0), mark(0), pause(1), item(1), mark(1), pause(2), pause(7), item(7)]
    numbers = [seq_of(number) for number in sent]
    assert numbers == sorted(set(numbers))


def test_a_signal_that_comes_by_several_ways_goes_on_once_and_again_when_it_comes_again() -> None:
    echoes = Echoes()
    first, other = Bitrate(origin="sink", bitrate_bps=1000), Interrupt(origin="sink", epoch=3)
    came = [("a", first), ("b", first), ("b", other), ("b", first), ("a", other), ("a", first)]
    assert [echoes.first(signal, way) for way, signal in came] == [True, False, True, True, False, False]
