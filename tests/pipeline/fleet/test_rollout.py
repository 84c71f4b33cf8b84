"""Whatever happens, and whenever the power goes, a node ends up with a release that was committed."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.fleet.rollout import NEXT, TRIES, Do, Phase, Record, RolloutEvent, follow

GOOD = (RolloutEvent.WANTED, RolloutEvent.FETCHED, RolloutEvent.ALLOWED, RolloutEvent.PASSED, RolloutEvent.COMMITTED)
SETTLED = Record(current=3, highest=3)


def after(record: Record, *events: RolloutEvent, generation: int = 4) -> Record:
    for event in events:
        record, _ = follow(record, event, generation=generation, reason="broken")
    return record


def test_a_good_release_is_committed_and_proves_itself_at_the_next_start() -> None:
    committed = after(SETTLED, *GOOD)
    assert (committed.phase, committed.current, committed.previous) == (Phase.RESTING, 4, 3)
    assert not committed.proven
    proven = after(committed, RolloutEvent.BOOTED, RolloutEvent.PASSED)
    assert proven.proven and (proven.current, proven.previous) == (4, 0)


def test_the_candidate_runs_in_its_trial_and_the_committed_one_at_every_other_time() -> None:
    seen = [after(SETTLED, *GOOD[:n]).running for n in range(len(GOOD) + 1)]
    assert seen == [3, 3, 3, 4, 3, 4]


def test_a_release_that_fails_its_gate_is_rolled_back_and_not_tried_again() -> None:
    failed = after(SETTLED, *GOOD[:3], RolloutEvent.FAILED)
    assert (failed.running, failed.last, failed.reason) == (3, 4, "broken")
    assert follow(failed, RolloutEvent.WANTED, generation=4) == (failed, Do.NOTHING)


def test_an_older_generation_does_nothing() -> None:
    assert follow(SETTLED, RolloutEvent.WANTED, generation=2) == (SETTLED, Do.NOTHING)


def test_a_release_that_fails_at_its_second_start_goes_back_to_the_one_before() -> None:
    back = after(SETTLED, *GOOD, RolloutEvent.BOOTED, RolloutEvent.FAILED)
    assert back.phase is Phase.COMMITTING and back.candidate == 3
    settled = after(back, RolloutEvent.COMMITTED)
    assert (settled.running, settled.proven, settled.reason) == (3, True, "broken")


@pytest.mark.parametrize("start", [GOOD[:3], (*GOOD, RolloutEvent.BOOTED)])
def test_what_brings_the_machine_down_twice_is_rolled_back(start: tuple[RolloutEvent, ...]) -> None:
    record = after(SETTLED, *start)
    for _ in range(TRIES):
        record = after(record, RolloutEvent.BOOTED, RolloutEvent.ALLOWED)
    record = after(record, RolloutEvent.COMMITTED)
    assert record.phase is Phase.RESTING and record.running == 3
    assert "went down 2 times" in record.reason


def test_the_first_release_has_nothing_to_go_back_to() -> None:
    first = after(Record(), *GOOD, generation=1)
    assert first.current == 1 and first.proven
    assert after(Record(), *GOOD[:3], RolloutEvent.FAILED, generation=1).running == 0


@pytest.mark.parametrize("cut", range(len(GOOD) + 1))
def test_the_power_may_go_after_any_step_and_the_release_still_gets_there(cut: int) -> None:
    record = after(SETTLED, *GOOD[:cut], RolloutEvent.BOOTED)
    assert record.running == (4 if cut == len(GOOD) else 3)
    assert after(record, *GOOD, RolloutEvent.PASSED).current == 4


events = st.lists(st.tuples(st.sampled_from(RolloutEvent), st.integers(1, 9)), max_size=60)


@given(events)
def test_what_a_boot_starts_has_passed_a_trial_and_generations_only_rise(
    events: list[tuple[RolloutEvent, int]],
) -> None:
    record, passed = Record(), {0}
    for event, generation in events:
        before = record
        if (before.phase, event) == (Phase.TRIAL, RolloutEvent.PASSED):
            passed.add(before.running)
        record, _ = follow(record, event, generation=generation, reason="x")
        assert record.highest >= before.highest
        booted, _ = follow(record, RolloutEvent.BOOTED)
        assert booted.running in passed


@given(events)
def test_what_was_rolled_back_is_never_tried_again(events: list[tuple[RolloutEvent, int]]) -> None:
    record, failed = Record(), set()
    for event, generation in events:
        if (record.phase, event) == (Phase.TRIAL, RolloutEvent.FAILED):
            failed.add(record.candidate)
        record, _ = follow(record, event, generation=generation)
        assert record.phase is not Phase.TRIAL or record.candidate not in failed


@given(events)
def test_a_record_that_was_written_is_read_back(events: list[tuple[RolloutEvent, int]]) -> None:
    record = Record()
    for event, generation in events:
        record, _ = follow(record, event, generation=generation)
    assert Record.from_plain(record.plain()) == record


def test_every_phase_can_be_left_and_every_boot_is_answered() -> None:
    assert {phase for phase, _ in NEXT} == set(Phase)
    assert {phase for phase, event in itertools.product(Phase, [RolloutEvent.BOOTED]) if (phase, event) in NEXT} == set(
        Phase
    )


def test_a_record_that_is_none_is_refused() -> None:
    with pytest.raises(ThalwegError, match="no record"):
        Record.from_plain({"phase": "flying"})
