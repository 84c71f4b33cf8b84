"""How many threads a language model is given, and how they wait for each other."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from thalweg.models.language import llama

HERE = "7f00-7f01 r-xp 00000000 fe:00 12 /lib/x86_64-linux-gnu/libgomp.so.1.0.0\n"
OTHER = "7f00-7f01 r-xp 00000000 fe:00 12 /site-packages/ctranslate2.libs/libgomp-a34b3233.so.1.0.0\n"


@pytest.mark.parametrize(
    ("cores", "brief", "threads"),
    [
        (0, True, 1),
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
    ("environment", "maps", "brief", "count"),
    [
        ({}, OTHER, True, "500"),
        ({}, HERE, False, None),
        ({}, None, False, None),
        ({"OMP_WAIT_POLICY": "passive"}, OTHER, False, None),
        ({"OMP_WAIT_POLICY": "active", "GOMP_SPINCOUNT": "500"}, OTHER, True, "500"),
        ({"GOMP_SPINCOUNT": "500"}, HERE, True, "500"),
        ({"GOMP_SPINCOUNT": "0"}, OTHER, False, "0"),
        ({"GOMP_SPINCOUNT": "300000"}, OTHER, False, "300000"),
        ({"GOMP_SPINCOUNT": "infinite"}, OTHER, False, "infinite"),
    ],
)
def test_waiting_is_brief_where_it_can_still_be_said_and_nothing_else_was(
    environment: Mapping[str, str],
    maps: str | None,
    brief: bool,
    count: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "environ", dict(environment))
    file = tmp_path / "maps"
    if maps is not None:
        file.write_text(maps, encoding="utf-8")
    assert llama.waits_briefly(file) is brief
    assert os.environ.get("GOMP_SPINCOUNT") == count
