"""Latency learned, breakers, routes and privacy."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from typing import Any

import pytest

from thalweg.pipeline.handoff.breaker import TRANSITIONS, Breaker, BreakerState
from thalweg.pipeline.handoff.latency import LatencyModel
from thalweg.pipeline.handoff.privacy import Privacy, Zone, luhn
from thalweg.pipeline.handoff.router import Candidate, RoutePolicy, choose


def answers(rng: random.Random, c: float, a: float, n: int) -> list[tuple[int, float]]:
    """Synthetic answers of a link: prompt tokens, and ms to the first token with a log-normal tail."""
    tokens = [rng.randrange(20, 800) for _ in range(n)]
    return [(t, (c + a * t) * rng.lognormvariate(0, 0.15)) for t in tokens]


def test_the_latency_model_covers_its_p95_and_errs_by_less_than_15_percent() -> None:
    rng = random.Random(1)
    model = LatencyModel()
    covered, errors = [], []
    for i, (tokens, first_ms) in enumerate(answers(rng, 120, 0.6, 800)):
        if i >= 40:
            covered.append(first_ms <= model.first_ms_at(0.95, tokens))
            errors.append(abs(model.expected_first_ms(tokens) / (120 + 0.6 * tokens) - 1))
        model.observe(tokens, first_ms)
    assert 0.93 <= sum(covered) / len(covered) <= 0.97
    assert sum(errors) / len(errors) <= 0.15


def test_a_fast_backend_is_believed_to_be_in_time_from_its_third_answer_on_and_a_slow_one_is_not() -> None:
    rng = random.Random(4)
    fast, slow = LatencyModel(), LatencyModel()
    for n, (tokens, first_ms) in enumerate(answers(rng, 120, 0.2, 40)):
        fast.observe(tokens, first_ms, 20, first_ms + 19 * 15)
        slow.observe(tokens, 8 * first_ms, 20, 8 * first_ms + 19 * 15)
        assert n < 2 or fast.in_time(900, 200) >= 0.95
        assert n < 2 or slow.in_time(900, 200) < 0.5


def test_a_change_of_the_link_is_learned_within_five_turns() -> None:
    rng = random.Random(2)
    model = LatencyModel()
    for tokens, first_ms in answers(rng, 100, 0.5, 60):
        model.observe(tokens, first_ms)
    for tokens, first_ms in answers(rng, 900, 0.5, 5):
        model.observe(tokens, first_ms)
    assert model.expected_first_ms(400) == pytest.approx(1100, rel=0.2)


def test_of_a_backend_that_caches_only_what_is_new_is_expected_to_be_read() -> None:
    rng, model = random.Random(7), LatencyModel()
    errors, read = [], 0
    for n in range(30):
        prompt = 100 + 60 * n
        expected, true = model.expected_first_ms(model.new_of(prompt, read)), 100 + 2.0 * (prompt - read)
        errors.append(abs(expected / true - 1))
        model.observe(prompt - read, true * rng.lognormvariate(0, 0.1), cached_tokens=read, repeated=read / prompt)
        read = prompt
    assert sorted(errors[10:])[10] <= 0.15, "with all of the prompt as new it would be 7 to 17 times as late"


@pytest.mark.parametrize("cached", [-1, 10**12, math.nan, math.inf, None])
def test_caches_that_cannot_be_are_not_believed(cached: Any) -> None:
    model = LatencyModel()
    model.observe(100, 200.0, cached_tokens=cached, repeated=1.0)
    assert (model.kept, model.answers) == (0.0, 1)


@pytest.mark.parametrize("first_ms", [-1.0, float("nan"), float("inf")])
def test_measurements_that_cannot_be_are_ignored(first_ms: float) -> None:
    model = LatencyModel()
    model.observe(100, first_ms)
    assert model.answers == 0


def test_the_breaker_does_what_its_table_says_and_all_of_it() -> None:
    seen: dict[tuple[str, BreakerState], set[BreakerState]] = defaultdict(set)
    rng = random.Random(3)
    for _ in range(300):
        breaker, now = Breaker(), 0.0
        for _ in range(60):
            now += rng.choice([1, 500, 5000])
            name = rng.choice([*TRANSITIONS, "failed", "allows", "allows"])
            if name == "misconfigured" and rng.random() < 0.8:
                continue
            before = breaker.state
            arguments = {"allows": (now,), "failed": (now, "why"), "misconfigured": ("why",)}.get(name, ())
            getattr(breaker, name)(*arguments)
            seen[name, before].add(breaker.state)
    assert {(name, before): set(after) for name, row in TRANSITIONS.items() for before, after in row.items()} == seen


def test_only_one_question_tries_a_backend_that_may_be_back() -> None:
    breaker = Breaker(failures=1)
    breaker.failed(0, "reset")
    assert not breaker.allows(1999)
    assert breaker.allows(2000)
    breaker.tries()
    assert not breaker.allows(2000)
    breaker.answered()
    assert breaker.allows(2001)


def test_one_that_may_be_back_and_was_not_asked_or_was_hung_up_on_may_be_asked_later() -> None:
    breaker = Breaker(failures=1)
    breaker.failed(0, "reset")
    assert breaker.allows(2000)
    assert breaker.allows(2001)
    breaker.tries()
    breaker.let_go()
    assert breaker.allows(2002)


def test_an_absurd_retry_after_is_cut() -> None:
    breaker = Breaker()
    breaker.failed(0, "429", retry_after_ms=1e9)
    assert not breaker.allows(119_000)
    assert breaker.allows(120_000)


EDGE = Candidate(name="pocket", where=Zone.EDGE, quality=0.5, cost=0, in_time=0.99, first_ms=60)
FOG = Candidate(name="house", where=Zone.FOG, quality=0.7, cost=1, in_time=0.99, first_ms=200)
CLOUD = Candidate(name="cloud", where=Zone.CLOUD, quality=0.95, cost=20, in_time=0.97, first_ms=500)


def test_the_best_quality_that_is_in_time_answers_and_the_others_stand_behind_it() -> None:
    route = choose([EDGE, FOG, CLOUD], RoutePolicy(), Zone.CLOUD)
    assert route.order == ("cloud", "house", "pocket")
    assert route.reason == "best quality of 3 that are in time"


def test_privacy_budget_and_breakers_leave_no_choice_and_say_so() -> None:
    shut = Candidate(name="house", where=Zone.FOG, closed="it refused its key")
    route = choose([EDGE, shut, CLOUD], RoutePolicy(budget_left=5), Zone.CLOUD)
    assert route.order == ("pocket",)
    assert dict(route.out) == {"house": "it refused its key", "cloud": "it costs 20, and 5 are left"}
    assert choose([CLOUD], RoutePolicy(), Zone.EDGE).reason == "cloud: words may not leave the edge"


def test_where_none_is_sure_to_be_in_time_the_likeliest_answers() -> None:
    slow = [Candidate(name="a", where=Zone.FOG, in_time=0.3), Candidate(name="b", where=Zone.FOG, in_time=0.6)]
    assert choose(slow, RoutePolicy(), Zone.CLOUD).order == ("b", "a")


@pytest.mark.parametrize(
    "text",
    ["don't tell anybody, but", "my card is 4111 1111 1111 1111", "it is about Ms. Vanderbilt"],
)
def test_private_words_keep_a_conversation_at_the_edge_from_then_on(text: str) -> None:
    privacy = Privacy(names=["Vanderbilt"])
    privacy.hear(text)
    privacy.hear("what is the weather")
    assert privacy.zone is Zone.EDGE
    assert not privacy.allows(Zone.FOG)


def test_ordinary_words_and_long_numbers_do_not() -> None:
    privacy = Privacy(limit=Zone.FOG)
    privacy.hear("the number is 4111 1111 1111 1112, tell everybody")
    assert privacy.zone is Zone.FOG
    assert not luhn("1234")


def test_one_that_is_likely_in_time_answers_where_another_can_help_it_and_that_one_stands_second() -> None:
    likely = Candidate(name="cloud", where=Zone.CLOUD, quality=0.95, cost=20, in_time=0.7, first_ms=500)
    helped = RoutePolicy(hedged_by=lambda one, other: other == "pocket")
    route = choose([EDGE, FOG, likely], helped, Zone.CLOUD)
    assert route.order == ("cloud", "pocket", "house")
    assert route.reason == "best quality of 3 that are in time, if need be with pocket beside it"
    assert route.confidence == pytest.approx(0.997)
    assert choose([EDGE, FOG, likely], RoutePolicy(), Zone.CLOUD).chosen == "house"
    assert choose([EDGE, FOG, likely], helped, Zone.FOG).chosen == "house"
    assert choose([likely], helped, Zone.CLOUD).chosen == "cloud"


def test_a_change_for_the_better_is_learned_from_trials_as_one_for_the_worse() -> None:
    rng, model = random.Random(6), LatencyModel()
    for c in (200, 1500, 200, 1500, 200):
        for tokens, first_ms in answers(rng, c, 0.1, 25):
            model.observe(tokens, first_ms, 20, first_ms + 19 * 30)
        assert (model.in_time(900, 200) > 0.95) == (c == 200)
