"""Which machine is told to take a smaller model, and how it is known what a machine has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from thalweg.models.store.fitting import advice, allowed_memory, free_memory, usable_cores
from thalweg.models.store.registry import Registry

GB = 1_000_000_000
MODELS = Registry.load().models
VOICE = [MODELS[name] for name in ("whisper-base", "qwen2.5-coder-0.5b-instruct", "piper-en-us-joe")]


@pytest.mark.parametrize(
    ("cores", "memory", "told"),
    [
        (2, 4 * GB, []),
        (2, None, []),
        (2, GB // 2, ["qwen2.5-coder-0.5b-instruct", "whisper-base"]),
        (1, 4 * GB, ["qwen2.5-coder-0.5b-instruct", "whisper-base"]),
    ],
)
def test_little_memory_or_one_processor_is_told_the_largest_first(
    cores: float, memory: int | None, told: list[str]
) -> None:
    assert [name for name, _ in advice(VOICE, cores=cores, memory=memory)] == told


def test_every_smaller_model_exists_and_takes_less() -> None:
    for model in MODELS.values():
        if model.smaller in MODELS:
            assert MODELS[model.smaller].memory < model.memory
        else:
            assert model.smaller in ("", "pocketsphinx")


def test_a_container_has_what_its_limits_say(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    4000000 kB\n")
    assert free_memory(tmp_path / "meminfo", tmp_path) == 4_096_000_000
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert free_memory(tmp_path / "meminfo", tmp_path) == 600_000
    assert usable_cores(tmp_path) == 0.5


@pytest.mark.parametrize("said", ["max 100000\n", "", "nonsense"])
def test_no_limit_is_none(tmp_path: Path, said: str) -> None:
    (tmp_path / "cpu.max").write_text(said)
    (tmp_path / "memory.max").write_text("max\n")
    assert usable_cores(tmp_path) >= 1
    assert free_memory(tmp_path / "nothing", tmp_path) is None


@pytest.mark.parametrize(
    ("own", "limits", "allowed"),
    [
        ("0::/system.slice/lender.service\n", {"system.slice/lender.service/memory.max": "4096"}, 4096),
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": "8192"}, 8192),
        ("0::/seen/from/outside\n", {"memory.max": "12288"}, 12288),
        ("4:cpu,memory:/a\n0::/\n", {"memory/a/memory.limit_in_bytes": "16384"}, 16384),
        ("4:memory:/a\n", {"memory/a/memory.limit_in_bytes": "9223372036854771712"}, None),
        ("4:cpu:/a\n", {"memory/a/memory.limit_in_bytes": "16384"}, None),
        ("nonsense\n", {"memory.max": "nonsense"}, None),
    ],
)
def test_a_service_or_a_container_may_use_what_its_limit_says_and_no_more_than_there_is(
    tmp_path: Path, own: str, limits: dict[str, str], allowed: int | None
) -> None:
    (tmp_path / "own").write_text(own)
    for path, limit in limits.items():
        (tmp_path / "groups" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / path).write_text(f"{limit}\n")
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert allowed_memory(tmp_path / "own", tmp_path / "groups") == (whole if allowed is None else allowed)
