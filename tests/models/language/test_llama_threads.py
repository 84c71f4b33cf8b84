"""How many threads a language model is given, and how they wait for each other."""

from __future__ import annotations

import pytest

from thalweg.models.language import llama


@pytest.mark.parametrize(
    ("cores", "brief", "threads"),
    [
        (1, True, 1),
        (2, True, 2),
        (3, True, 2),
        (4, True, 3),
        (64, True, 4),
        (1, False, 1),
        (2, False, 1),
        (8, False, 4),
    ],
)
def test_a_core_is_left_to_others_unless_there_are_two_and_waiting_costs_little(
    cores: int, brief: bool, threads: int
) -> None:
    assert llama.threads_for(cores, brief=brief) == threads


@pytest.mark.parametrize(
    ("name", "value", "brief"),
    [
        ("OMP_WAIT_POLICY", "passive", True),
        ("OMP_WAIT_POLICY", "ACTIVE", False),
        ("GOMP_SPINCOUNT", "0", True),
        ("GOMP_SPINCOUNT", "300000", False),
        ("GOMP_SPINCOUNT", "infinite", False),
    ],
)
def test_what_the_environment_says_of_waiting_holds(
    name: str, value: str, brief: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for other in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, value)
    assert llama.spins_briefly() is brief
