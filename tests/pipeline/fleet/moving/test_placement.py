"""Where a stage goes as links and loads change, and how seldom."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from thalweg.pipeline.fleet.moving.placement import Place, Placement, Prediction, Rule, Switch

S, MS = 1_000_000_000, 1_000_000
RULE = Rule(deadline_ns=200 * MS)
EDGE, SMALL, CLOUD = Place(name="edge"), Place(name="small", quality=0.5), Place(name="cloud", remote=True)


def took(ms: int) -> Prediction:
    return Prediction(queue_ns=0, compute_ns=ms * MS)


def follow(placement: Placement, **ms: int) -> list[tuple[int, str]]:
    """Decide every 100 ms for 30 s with the cloud alive, and steady since ten; when it went where."""
    found = []
    for step in range(100):
        placement.beat("cloud", 10 * S + step * 100 * MS)
    for step in range(300):
        now_ns = 20 * S + step * 100 * MS
        placement.beat("cloud", now_ns)
        switch = placement.decide(now_ns, {name: took(value) for name, value in ms.items()})
        if switch is not None:
            found.append((now_ns - 20 * S, switch.target))
    return found


def test_a_prediction_is_queue_compute_sending_and_the_round_trip() -> None:
    there = Prediction(queue_ns=5 * MS, compute_ns=20 * MS, size=125_000, rate_bps=10e6, round_trip_p95_ns=60 * MS)
    assert there.whole_ns == (5 + 20 + 100 + 60) * MS


def test_a_place_that_does_not_keep_up_meets_no_deadline() -> None:
    slow = Prediction(queue_ns=0, compute_ns=110 * MS, every_ns=100 * MS)
    assert slow.whole_ns > 10 * S
    assert follow(Placement(RULE, (EDGE, SMALL)), edge=20_000, small=60) == [(S // 2, "small")]


def test_it_goes_where_it_is_a_fifth_quicker_once_that_has_held_for_three_seconds() -> None:
    assert follow(Placement(RULE, (EDGE, CLOUD)), edge=150, cloud=119) == [(3 * S, "cloud")]
    assert follow(Placement(RULE, (EDGE, CLOUD)), edge=150, cloud=121) == []


def test_it_goes_to_what_meets_the_deadline_and_to_the_better_model_where_there_is_time_to_spare() -> None:
    assert follow(Placement(RULE, (EDGE, SMALL)), edge=250, small=60) == [(S // 2, "small")]
    assert follow(Placement(RULE, (SMALL, CLOUD)), small=60, cloud=150) == [(3 * S, "cloud")]
    assert follow(Placement(RULE, (SMALL, CLOUD)), small=60, cloud=170) == []


def test_two_missed_beats_send_it_home_at_once_to_the_smaller_model() -> None:
    placement = Placement(RULE, (SMALL, EDGE, CLOUD))
    placement.place = "cloud"
    ways = {"edge": took(500), "small": took(60), "cloud": took(50)}
    placement.beat("cloud", 0)
    assert placement.decide(400 * MS, ways) is None
    assert placement.decide(401 * MS, ways) == Switch(target="small", reason="cloud missed 2 beats")


def test_a_place_that_never_beat_is_never_gone_to() -> None:
    placement = Placement(RULE, (EDGE, CLOUD))
    ways = {"edge": took(150), "cloud": took(20)}
    assert all(placement.decide(step * S, ways) is None for step in range(30))


def test_a_place_is_gone_to_once_it_has_missed_no_beats_for_ten_seconds() -> None:
    placement = Placement(RULE, (EDGE, CLOUD))
    found = []
    for step in range(1200):  # 4 s of link, 1 s without, for a minute; then it stays
        now_ns = step * 100 * MS
        if now_ns >= 60 * S or now_ns % (5 * S) < 4 * S:
            placement.beat("cloud", now_ns)
        if placement.decide(now_ns, {"edge": took(150), "cloud": took(20)}) is not None:
            found.append(now_ns / S)
    assert found == [73]


def test_one_that_is_known_to_be_lost_is_left_at_once_and_gone_to_again_after_ten_seconds() -> None:
    placement = Placement(RULE, (EDGE, CLOUD))
    ways = {"edge": took(150), "cloud": took(20)}
    found = []
    for step in range(600):
        now_ns = step * 100 * MS
        if now_ns == 20 * S:
            placement.lost("cloud", now_ns)
        else:
            placement.beat("cloud", now_ns)
        if (switch := placement.decide(now_ns, ways)) is not None:
            found.append((now_ns / S, switch.target))
    assert found == [(13, "cloud"), (20, "edge"), (33.1, "cloud")]


@given(st.lists(st.integers(1, 400), min_size=120, max_size=120))
def test_a_link_that_flaps_costs_at_most_one_switch_in_ten_seconds(cloud_ms: list[int]) -> None:
    placement = Placement(RULE, (EDGE, CLOUD))
    switched: list[int] = []
    for step, ms in enumerate(cloud_ms):
        now_ns = step * 500 * MS
        placement.beat("cloud", now_ns)
        if placement.decide(now_ns, {"edge": took(150), "cloud": took(ms)}) is not None:
            switched.append(now_ns)
    assert all(b - a >= 10 * S for a, b in pairwise(switched))
