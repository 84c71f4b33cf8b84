"""A machine that is too hot, too busy or short of battery runs less, settles, and comes back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.fleet.limits import Bounds, Ladder, Reading

S = 1_000_000_000
BOUNDS = Bounds(battery=(0.3, 0.15))


def rungs(*readings: Reading, every_s: int = 10, ladder: Ladder | None = None) -> list[int]:
    """The rung after each look."""
    found = ladder or Ladder(3, BOUNDS)
    seen = []
    for n, reading in enumerate(readings):
        found.look(n * every_s * S, reading)
        seen.append(found.rung)
    return seen


def hot(heat_c: float) -> Reading:
    return Reading(heat_c=heat_c, busy=0.5)


def test_while_it_is_too_hot_more_is_given_up_a_rung_at_a_time() -> None:
    assert rungs(*[hot(85)] * 5) == [1, 2, 3, 3, 3]
    assert rungs(*[hot(85)] * 5, every_s=4) == [1, 1, 1, 2, 2]


def test_near_its_limit_it_stays_and_only_calm_brings_things_back_one_by_one() -> None:
    assert rungs(hot(85), hot(85), *[hot(76)] * 20) == [1, *[2] * 21]
    assert rungs(hot(85), hot(85), *[hot(70)] * 14) == [1, *[2] * 7, *[1] * 7, 0]


def test_critical_heat_gives_up_everything_at_once() -> None:
    assert rungs(hot(70), hot(95)) == [0, 3]


def test_a_busy_processor_steps_as_heat_does() -> None:
    assert rungs(*[Reading(busy=0.99)] * 2, Reading(busy=0.85)) == [1, 2, 2]


def test_the_battery_says_what_is_given_up_at_least_until_it_is_charged() -> None:
    levels = [Reading(battery=left) for left in (0.5, 0.29, 0.31, 0.14, 0.16)]
    assert rungs(*levels) == [0, 1, 1, 2, 2]
    ladder = Ladder(3, BOUNDS)
    rungs(Reading(battery=0.2), ladder=ladder)
    assert rungs(*[Reading(battery=0.36)] * 8, ladder=ladder) == [*[1] * 6, 0, 0]


@pytest.mark.parametrize("gone", [None, float("nan")])
def test_a_sensor_that_fails_of_the_heat_brings_nothing_back(gone: float | None) -> None:
    assert rungs(hot(85), *[Reading(heat_c=gone, busy=0.1)] * 20)[-1] == 1


def test_a_machine_without_a_sensor_comes_back_by_the_others() -> None:
    assert rungs(Reading(busy=1.0), *[Reading(busy=0.1)] * 8)[-1] == 0


readings = st.builds(
    Reading,
    heat_c=st.none() | st.floats(-40, 150),
    busy=st.none() | st.floats(0, 1),
    battery=st.none() | st.floats(0, 1),
)


@given(st.lists(st.tuples(readings, st.integers(0, 70)), max_size=60), st.integers(1, 5))
def test_whatever_is_read_limits_are_kept_and_nothing_comes_back_without_calm(
    looks: list[tuple[Reading, int]], last: int
) -> None:
    ladder, now_s, moved_s = Ladder(last, BOUNDS), 0, -1000
    for reading, passed_s in looks:
        before, now_s = ladder.rung, now_s + passed_s
        move = ladder.look(now_s * S, reading)
        assert 0 <= ladder.rung <= last and (move is not None) == (ladder.rung != before)
        if reading.heat_c is not None and reading.heat_c >= BOUNDS.critical_c:
            assert ladder.rung == last
        if reading.battery is not None:
            assert ladder.rung >= min(last, sum(reading.battery < threshold for threshold in BOUNDS.battery))
        if ladder.rung < before:
            assert ladder.rung == before - 1 and now_s - moved_s >= 60
        moved_s = moved_s if move is None else now_s


@pytest.mark.parametrize("wrong", [{"heat_c": 95.0}, {"battery": (0.1, 0.3)}, {"battery": (1.5,)}])
def test_bounds_out_of_order_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ThalwegError, match=r"expected falling|is not below"):
        Bounds(**wrong)  # type: ignore[arg-type]
