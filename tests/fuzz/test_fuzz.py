"""A short run of every target: CI's part of the fuzzing; the long one is in docs/security.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import require_package
from tests.fuzz.engine import CHUNK, Findings, Target, fuzz
from tests.fuzz.targets import TARGETS, corpus
from thalweg.transports.codec import CodecError

COUNT = 1_500


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_raises_anything_but_what_its_reader_promises(name: str) -> None:
    if name == "wire":
        require_package("google.protobuf", "grpc")
    found = Findings(seed=7)
    for _ in fuzz(name, TARGETS[name], COUNT, found, corpus(name)):
        pass
    assert (found.done, found.unexpected, found.hangs) == (COUNT, {}, 0)
    assert found.accepted > 0


def target(read: object) -> Target:
    return Target(lambda: [b"seed"], lambda rng: rng.randbytes(4), read, (CodecError,))  # type: ignore[arg-type]


def findings(read: object) -> Findings:
    found = Findings(seed=1)
    for _ in fuzz("test", target(read), 50, found):
        pass
    return found


def test_what_is_raised_against_the_promise_is_found_with_its_input() -> None:
    def fails(data: bytes) -> None:
        raise KeyError(len(data) * 0)

    assert list(findings(fails).unexpected) == ["KeyError: '0'"]


def test_a_refusal_that_would_command_a_terminal_is_found() -> None:
    def rings(_: bytes) -> None:
        raise CodecError("\x1b[2J")

    assert list(findings(rings).unexpected) == ["a text that is long or does not print: '\\x1b[2J'"]


def test_an_input_without_end_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.engine.HANG_S", 0.01)
    left = [None]

    def hangs(_: bytes) -> None:
        while left:
            left.append(None) if len(left) < 10 else None

    found = Findings(seed=1)
    run = fuzz("test", target(hangs), 2, found)
    next(run)
    assert found.hangs == 2 and list(found.unexpected) == ["no end within 0.01 s"]


def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    whole, first = Findings(seed=3), Findings(seed=3)
    read = TARGETS["greetings"]
    for _ in fuzz("greetings", read, 2 * CHUNK, whole):
        pass
    next(iter(fuzz("greetings", read, 2 * CHUNK, first)))
    first.write(tmp_path / "state.json")
    again = Findings.read(tmp_path / "state.json", seed=3)
    assert again.done == CHUNK
    for _ in fuzz("greetings", read, 2 * CHUNK, again):
        pass
    assert again.done == whole.done
    assert Findings.read(tmp_path / "state.json", seed=4).done == 0
