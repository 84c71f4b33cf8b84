"""What passes a trial, and what does not."""

from __future__ import annotations

import pytest

from thalweg.pipeline.fleet.gate import Gate, Sight, Trial, Verdict

S = 1_000_000_000
GATE = Gate(outputs=("alerts",))


def watch(sights: list[Sight | None], gate: Gate = GATE) -> tuple[Verdict | None, int]:
    """The verdict on what is seen once a second, the last of it for ever; and after how many seconds."""
    trial = Trial(gate, 0)
    for second in range(1, 60):
        verdict = trial.see(second * S, sights[min(second, len(sights)) - 1])
        if verdict is not None:
            return verdict, second
    return None, 60


def flowing(seconds: int = 60, **more: int) -> list[Sight | None]:
    return [Sight(ready=True, outputs={"alerts": n}, **more) for n in range(1, seconds)]


def test_what_opens_and_flows_passes_after_the_time_it_is_watched() -> None:
    assert watch([Sight(ready=False)] * 3 + flowing()) == (Verdict(), 34)


@pytest.mark.parametrize(
    ("sights", "reason"),
    [
        ([Sight(ready=False)], "not ready within 15 s"),
        ([None], "not ready within 15 s"),
        ([Sight(ready=True, ended="exit code 1")], "it ended: exit code 1"),
        ([*flowing(5), Sight(ready=True, restarts=1)], "restarted 1 time"),
        ([Sight(ready=True, outputs={"alerts": 0})], "output alerts has given nothing for 10 s"),
        ([Sight(ready=True, outputs={"other": 9})], "output alerts has given nothing for 10 s"),
        ([*flowing(5), Sight(ready=True, outputs={"alerts": 5})], "output alerts has given nothing"),
        ([*flowing(5), None], "did not answer for 7 s"),
        (flowing(made=100, missed=6), "missed 6 of 100 deadlines, at most 5% may be"),
    ],
)
def test_what_does_not_work_fails_within_45_s(sights: list[Sight | None], reason: str) -> None:
    verdict, second = watch(sights)
    assert verdict is not None and reason in verdict.reason
    assert second <= 45


def test_without_named_outputs_something_must_come_out() -> None:
    verdict, _ = watch([Sight(ready=True)], Gate())
    assert verdict == Verdict("nothing has come out of it")
    assert watch(flowing(), Gate()) == (Verdict(), 31)


def test_a_share_of_few_deadlines_says_nothing() -> None:
    assert watch(flowing(made=10, missed=9))[0] == Verdict()
