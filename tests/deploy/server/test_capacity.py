"""How many conversations a machine holds, learned from turns; time is an argument."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from thalweg.deploy.server.capacity import HOLD_S, LONGEST_HOLD_S, Capacity
from thalweg.deploy.server.load import children_s, descendants


def told(*turns: tuple[int, float], capacity: Capacity | None = None, at_s: float = 0.0) -> Capacity:
    """Told of turns: how many talked, and the time to first sound; from the start with ten quick ones alone."""
    if capacity is None:
        capacity = Capacity()
        for _ in range(10):
            capacity.note(1, 0.5, at_s)
    for talking, first_audio_s in turns:
        capacity.note(talking, first_audio_s, at_s)
    return capacity


def test_nothing_is_known_before_anything_was_heard() -> None:
    assert Capacity().limit(0.0) is None


def test_a_crowd_as_quick_as_one_alone_is_no_limit() -> None:
    assert told(*[(2, 0.7)] * 50, *[(3, 0.74)] * 50).limit(0.0) is None


def test_a_crowd_whose_answers_are_slow_is_kept_smaller_by_one() -> None:
    assert told(*[(2, 0.6)] * 10, (3, 0.8), (3, 0.8)).limit(0.0) == 2


def test_one_slow_answer_is_an_accident() -> None:
    assert told(*[(2, 0.6)] * 10, (2, 9.0), *[(2, 0.6)] * 10).limit(0.0) is None


def test_two_slow_answers_among_very_many_are_what_p95_allows() -> None:
    assert told(*[(2, 0.6)] * 45, (2, 9.0), (2, 9.0)).limit(0.0) is None


def test_slow_answers_are_compared_with_as_slow_ones_alone() -> None:
    capacity = Capacity()
    for _ in range(10):
        capacity.note(1, 2.0, 0.0)
    assert told(*[(2, 2.8)] * 20, capacity=capacity).limit(0.0) is None


def test_without_anybody_alone_the_smallest_crowd_says_how_it_can_be() -> None:
    capacity = Capacity()
    assert told(*[(2, 0.5)] * 5, *[(4, 1.0)] * 2, capacity=capacity).limit(0.0) == 3


def test_one_alone_is_always_let_in() -> None:
    assert told(*[(1, 9.0)] * 30, (2, 60.0), (2, 60.0)).limit(0.0) == 1


def test_those_who_stay_in_too_large_a_crowd_do_not_prolong_the_limit() -> None:
    capacity = told((3, 2.0), (3, 2.0))
    told(*[(3, 2.0)] * 20, capacity=capacity, at_s=HOLD_S - 1)
    assert capacity.limit(HOLD_S - 1) == 2
    assert capacity.limit(HOLD_S) is None


def test_a_smaller_crowd_that_is_slow_too_lowers_the_limit() -> None:
    assert told((3, 2.0), (3, 2.0), (2, 2.0), (2, 2.0)).limit(0.0) == 1


def test_a_limit_found_again_holds_for_twice_as_long_each_time_within_bounds() -> None:
    capacity, now_s, held = told(), 0.0, []
    for _ in range(6):
        told((3, 2.0), (3, 2.0), capacity=capacity, at_s=now_s)
        began_s = now_s
        while capacity.limit(now_s) is not None:
            now_s += 60.0
        held.append(now_s - began_s)
    assert held == [HOLD_S, 2 * HOLD_S, 4 * HOLD_S, 8 * HOLD_S, LONGEST_HOLD_S, LONGEST_HOLD_S]


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc to read it from")
def test_processor_time_of_childrens_children_counts() -> None:
    burn = "import sys, time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\nsys.stdin.read()"
    command = ["sh", "-c", '"$@"; true', "sh", sys.executable, "-c", burn]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shell:
        assert shell.stdout is not None
        shell.stdout.readline()
        assert children_s(shell.pid) >= 0.2
        assert children_s() >= 0.2


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc to read it from")
def test_a_child_that_another_thread_has_started_counts() -> None:
    with ThreadPoolExecutor(1) as other, other.submit(subprocess.Popen, ["cat"], stdin=subprocess.PIPE).result() as cat:
        assert cat.pid in descendants()
