"""The optimizer takes the best combination that is in time, and says why where there is none."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.pipeline.senses.configuring import (
    ConfigureError,
    Kind,
    Knob,
    Optimizer,
    Profile,
    Request,
    Row,
    SlowDown,
    pareto,
    profile_from,
)

FINGERPRINT = {"cpu": "that one", "cores": "2"}


def profile(knobs: int = 2, values: int = 3) -> Profile:
    """Every knob turned up costs 10 ms and is worth a bit of accuracy; twice the load costs twice the time."""
    names = [f"stage{i}.size" for i in range(knobs)]
    rows = []
    for combination in product(range(values), repeat=knobs):
        cost = 10.0 * (1 + sum(combination))
        accuracy = 0.5 + 0.4 * sum(combination) / (knobs * (values - 1))
        settings = {name: str(v) for name, v in zip(names, combination, strict=True)}
        rows.append(Row(settings, accuracy, (cost, 2 * cost)))
    return Profile(
        pipeline="p",
        made="2026-01-01",
        fingerprint=FINGERPRINT,
        knobs=tuple(Knob(name, Kind.MODEL_SIZE, tuple(map(str, range(values)))) for name in names),
        slow_downs=(1.0, 2.0),
        unit_ms={"audio:s:640": 2.0},
        rows=tuple(rows),
    )


@pytest.mark.parametrize(("knobs", "values"), [(1, 3), (2, 3), (5, 3), (5, 4)])
def test_it_takes_the_most_accurate_combination_in_time_whatever_the_number_of_stages(knobs: int, values: int) -> None:
    chosen = Optimizer(profile(knobs, values)).choose(Request(budget_ms=25))
    assert chosen.feasible
    assert sum(map(int, chosen.settings.values())) == 1


def test_load_takes_it_down_and_back_up() -> None:
    optimizer = Optimizer(profile())
    request = Request(budget_ms=40)
    picked = [sum(map(int, optimizer.choose(request, factor).settings.values())) for factor in (1.0, 1.5, 2.0, 4.0)]
    assert picked == [3, 1, 1, 0]


@given(st.floats(1, 8), st.floats(1, 500))
def test_what_it_calls_feasible_is_within_the_budget_at_that_load(factor: float, budget_ms: float) -> None:
    chosen = Optimizer(profile()).choose(Request(budget_ms=budget_ms), factor)
    assert not chosen.feasible or chosen.latency_ms <= budget_ms
    assert chosen.feasible == bool((Optimizer(profile()).latencies(factor) <= budget_ms).any())


@pytest.mark.parametrize(
    ("request_", "factor", "says"),
    [
        (Request(budget_ms=5), 1.0, "the budget of 5 ms: the fastest takes 10 ms"),
        (Request(budget_ms=15), 2.0, "the load: the device is 2.0 times slower"),
        (Request(budget_ms=15, only={"stage0.size": ("2",)}), 1.0, "the restriction to stage0.size=2"),
        (Request(budget_ms=15, accuracy=0.85), 1.0, "the accuracy of 85%"),
        (Request(budget_ms=15, only={"stage0.size": ("9",)}), 1.0, "no profiled combination has stage0.size=9"),
    ],
)
def test_it_says_which_constraint_makes_a_request_infeasible(request_: Request, factor: float, says: str) -> None:
    chosen = Optimizer(profile()).choose(request_, factor)
    assert not chosen.feasible
    assert says in chosen.why


def test_a_sample_stays_with_what_it_has_begun_with_until_the_whole_budget_is_used_up() -> None:
    optimizer = Optimizer(profile())
    request = Request(budget_ms=40, margin=0.1)
    begun = optimizer.choose(request).settings
    assert optimizer.choose(request, 1.3).settings != begun
    assert optimizer.stay(begun, request, 1.3).settings == begun
    assert optimizer.stay(begun, request, 1.4) == optimizer.choose(request, 1.4)


@pytest.mark.parametrize(
    "change", [{"only": {"stage0.size": ("0",), "stage1.size": ("0",)}}, {"accuracy": 0.8}, {"budget_ms": 5.0}]
)
def test_what_was_begun_is_given_up_where_it_does_not_meet_the_request(change: dict[str, Any]) -> None:
    optimizer = Optimizer(profile())
    begun = {"stage0.size": "1", "stage1.size": "1"}
    request = replace(Request(budget_ms=60), **change)
    assert optimizer.stay(begun, request) == optimizer.choose(request)


def test_a_sample_that_has_begun_with_what_was_not_profiled_gets_what_is_best() -> None:
    optimizer = Optimizer(profile())
    assert optimizer.stay({}, Request(budget_ms=40)) == optimizer.choose(Request(budget_ms=40))


def test_an_infeasible_request_gets_the_fastest_combination() -> None:
    assert set(Optimizer(profile()).choose(Request(budget_ms=1)).settings.values()) == {"0"}


def test_a_prediction_for_the_sample_outweighs_the_average() -> None:
    table = profile(1)
    optimizer = Optimizer(table, lambda first: np.array([0.9, 0.2, 0.1]) * first)
    assert optimizer.choose(Request(budget_ms=100), first=1.0).settings == {"stage0.size": "0"}


def test_load_that_comes_is_believed_at_once_and_load_that_goes_later() -> None:
    slow = SlowDown({"audio:s": 2.0}, window=8)
    factors = []
    for cost_ms in [2.0] * 8 + [4.0, 4.0] + [2.0] * 5:
        slow.observe("audio:s", cost_ms)
        factors.append(slow.factor)
    assert factors[7] == 1.0
    assert factors[9] == 2.0
    assert factors[-1] == 1.0


def test_one_slow_unit_is_an_accident() -> None:
    slow = SlowDown({"audio:s": 2.0})
    for cost_ms in (2.0, 2.0, 2.0, 40.0):
        slow.observe("audio:s", cost_ms)
    slow.observe("unknown", 1000.0)
    assert slow.factor == 1.0


def test_a_profile_survives_being_written() -> None:
    assert profile_from(profile().plain()) == profile()


def test_a_profile_of_other_hardware_says_in_what_it_differs() -> None:
    assert profile().foreign(FINGERPRINT) == []
    assert profile().foreign({"cpu": "another", "cores": "2"}) == ["cpu: profiled on that one, this is another"]


@pytest.mark.parametrize("change", [{"profile": 1}, {"rows": []}, {"slow_downs": [2, 1]}, {"knobs": 3}])
def test_a_damaged_profile_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigureError):
        profile_from({**profile().plain(), **change})


def test_the_pareto_front_has_nothing_that_is_both_slower_and_worse() -> None:
    front = pareto(profile().rows)
    assert [row.latency_ms[0] for row in front] == [10, 20, 30, 40, 50]
    assert [row.accuracy for row in front] == sorted(row.accuracy for row in front)
