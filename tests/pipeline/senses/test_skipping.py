"""When a sample is decided: once, never too early, never never."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.pipeline.senses.skipping import (
    MS,
    TRANSITIONS,
    Action,
    AskGate,
    Decide,
    SampleSkipper,
    Sense,
    SkipError,
    SkipPolicy,
    Stop,
    Verify,
)

POLICY = SkipPolicy(
    checkpoints=(0.5, 0.7, 0.9), modalities=("audio", "video"), patience_ns=500 * MS, limit_ns=5000 * MS
)


def play(skipper: SampleSkipper, modality: str, shares: list[float], at_ms: int = 0) -> list[Action]:
    return [a for s in shares for a in skipper.unit(modality, s, s >= 1, at_ms * MS)]


def test_without_an_answer_it_decides_when_every_modality_is_done() -> None:
    skipper = SampleSkipper(POLICY)
    assert play(skipper, "audio", [0.5, 1.0]) == []
    assert play(skipper, "video", [0.4, 1.0]) == [Decide("complete")]


def test_it_asks_at_each_checkpoint_the_slow_modality_passes_and_only_then() -> None:
    skipper = SampleSkipper(POLICY)
    assert play(skipper, "video", [0.2]) + play(skipper, "audio", [1.0]) == []
    asked = play(skipper, "video", [0.4, 0.5, 0.6, 0.7, 0.8, 0.95])
    assert asked == [AskGate(0.5), AskGate(0.7), AskGate(0.9)]


def test_checkpoints_that_passed_before_the_fast_modality_was_done_are_asked_about_once() -> None:
    skipper = SampleSkipper(POLICY)
    assert play(skipper, "video", [0.3, 0.6, 0.75]) == []
    assert play(skipper, "audio", [1.0]) == [AskGate(0.7)]


def test_either_modality_may_be_the_fast_one() -> None:
    skipper = SampleSkipper(POLICY)
    assert play(skipper, "audio", [0.6]) + play(skipper, "video", [1.0]) == [AskGate(0.5)]
    assert skipper.answered(0.9) == [Stop(("audio",)), Decide("skipped")]
    assert skipper.senses["audio"] is Sense.STOPPED


def test_with_three_modalities_all_slow_ones_must_have_come_far_enough() -> None:
    skipper = SampleSkipper(SkipPolicy(modalities=("a", "b", "c")))
    assert play(skipper, "a", [1.0]) + play(skipper, "b", [0.8]) == []
    assert play(skipper, "c", [0.5]) == [AskGate(0.5)]
    assert skipper.answered(1.0) == [Stop(("b", "c")), Decide("skipped")]


@pytest.mark.parametrize("answer", [0.49, 0.0, float("nan")])
def test_a_gate_below_the_threshold_changes_nothing(answer: float) -> None:
    skipper = SampleSkipper(POLICY)
    play(skipper, "audio", [1.0])
    play(skipper, "video", [0.5])
    assert skipper.answered(answer) == []
    assert play(skipper, "video", [1.0]) == [Decide("complete")]


def test_what_comes_after_a_skip_is_counted_and_does_nothing() -> None:
    skipper = SampleSkipper(POLICY)
    play(skipper, "audio", [1.0])
    play(skipper, "video", [0.5])
    skipper.answered(0.9)
    assert play(skipper, "video", [0.6, 1.0]) == []
    assert skipper.late == 2


def test_a_verified_skip_decides_at_once_stops_nobody_and_decides_again_at_the_end() -> None:
    skipper = SampleSkipper(POLICY, verify=True)
    play(skipper, "audio", [1.0])
    play(skipper, "video", [0.5])
    assert skipper.answered(0.9) == [Decide("skipped")]
    assert play(skipper, "video", [0.7, 1.0]) == [Verify()]
    assert skipper.closed


def test_a_modality_that_never_comes_is_given_up_after_the_patience() -> None:
    skipper = SampleSkipper(POLICY)
    play(skipper, "audio", [0.5, 1.0], at_ms=100)
    assert skipper.deadline_ns == 600 * MS
    assert skipper.tick(599 * MS) == []
    assert skipper.tick(600 * MS) == [Decide("silent")]


def test_a_stall_is_forgiven_while_another_modality_is_still_coming() -> None:
    skipper = SampleSkipper(POLICY)
    play(skipper, "video", [0.3], at_ms=0)
    play(skipper, "audio", [0.3], at_ms=900)
    assert skipper.tick(1000 * MS) == []
    assert play(skipper, "video", [1.0], at_ms=1100) == []
    assert play(skipper, "audio", [1.0], at_ms=1200) == [Decide("complete")]


def test_a_modality_that_drips_for_ever_is_cut_off_at_the_limit() -> None:
    skipper = SampleSkipper(POLICY)
    play(skipper, "audio", [1.0])
    for i in range(1, 50):
        play(skipper, "video", [0.01], at_ms=i * 100)
    assert skipper.tick(5000 * MS) == [Stop(("video",)), Decide("limit")]


def test_the_end_of_the_inputs_decides_what_is_open() -> None:
    skipper = SampleSkipper(POLICY)
    play(skipper, "audio", [0.3])
    assert skipper.ended() == [Decide("ended")]
    assert skipper.ended() == []


def test_an_unknown_modality_is_refused() -> None:
    with pytest.raises(SkipError, match="smell"):
        SampleSkipper(POLICY).unit("smell", 0.1, False, 0)


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["unit", "tick", "answer"]),
        st.sampled_from(["audio", "video"]),
        st.sampled_from([0.1, 0.5, 0.7, 0.9, 1.0]),
        st.integers(0, 700),
    ),
    max_size=30,
)


@given(EVENTS, st.booleans())
def test_a_sample_decides_once_and_the_deadline_closes_it(events: list[tuple[str, str, float, int]], v: bool) -> None:
    skipper = SampleSkipper(POLICY, verify=v)
    now_ms, actions = 0, list[Action]()
    for kind, modality, value, wait_ms in events:
        now_ms += wait_ms
        if kind == "unit":
            actions += skipper.unit(modality, value, value >= 1, now_ms * MS)
        elif kind == "tick":
            actions += skipper.tick(now_ms * MS)
        else:
            actions += skipper.answered(value)
    while (deadline_ns := skipper.deadline_ns) is not None:
        actions += skipper.tick(max(deadline_ns, now_ms * MS))
    begun = any(kind == "unit" for kind, *_ in events)
    assert sum(isinstance(a, Decide) for a in actions) == (1 if begun else 0)
    assert skipper.closed == begun


def test_every_step_of_a_modality_is_in_the_table_and_the_table_has_no_other() -> None:
    rng, seen = random.Random(0), set()
    for _ in range(2_000):
        skipper, now_ns, ended = SampleSkipper(POLICY, verify=rng.random() < 0.3), 0, set()
        for _ in range(15):
            before = dict(skipper.senses)
            modality, step = rng.choice(POLICY.modalities), rng.randrange(4)
            if step < 2 and modality not in ended:
                last = rng.random() < 0.3
                skipper.unit(modality, rng.random(), last, now_ns)
                ended |= {modality} if last else set()
            elif step == 2:
                skipper.answered(rng.random())
            else:
                now_ns += rng.choice([100, 600, 6000]) * MS
                skipper.tick(now_ns)
            seen |= {(was, skipper.senses[name]) for name, was in before.items() if skipper.senses[name] is not was}
    assert seen == {(before, after) for before, following in TRANSITIONS.items() for after in following}
