"""A benchmark says what it is doing, and a system that never answers does not hold it up."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import io
import json
import os
import time
from pathlib import Path

import pytest

from thalweg.deploy.bench import BENCHES, rounds, run_bench
from thalweg.deploy.bench.language import handoff
from thalweg.deploy.bench.peers import run_peer
from thalweg.deploy.bench.result import Result
from thalweg.deploy.bench.rounds import RoundError, Rounds


def peer(root: Path, name: str, script: str) -> None:
    python = root / name / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)


@pytest.fixture
def peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("THALWEG_PEERS", str(tmp_path))
    return tmp_path


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2][0] not in "ZX"
    except FileNotFoundError:
        return False


def test_a_peer_that_never_answers_is_asked_once_and_left_out_with_the_reason(
    peers: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    peer(peers, "zmq", f"echo $$ >> {peers}/asked; sleep 600 & sleep 600")
    result = run_bench("hop", peers / "b.json", quick=False, part="zmq-ipc", limit_s=0.5)
    assert result.notes == ["zmq-ipc is left out: it did not end within 0.5 s (round 1 of 3)"]
    assert json.loads((peers / "b.json").read_text())["notes"] == result.notes
    [asked] = (peers / "asked").read_text().split()
    assert not is_running(int(asked))
    assert "bench hop: zmq-ipc: round 1 of 3 (1 of 3)\n" in capfd.readouterr().err


def test_a_peer_that_leaves_something_running_has_answered(peers: Path) -> None:
    peer(peers, "zmq", f'setsid sleep 60 & echo $! > {peers}/left; echo \'{{"version": "1"}}\'')
    began = time.monotonic()
    assert run_peer("zmq", "core/programs/zmq_hop.py", [], Result(bench="hop"), limit_s=30.0) == {"version": "1"}
    assert time.monotonic() - began < 30.0
    os.kill(int((peers / "left").read_text()), 9)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo starting >&2; echo no such module >&2; exit 1", "its script failed: no such module"),
        ("exit 3", "its script failed: no output"),
        ("exit 0", "its script said nothing"),
    ],
)
def test_a_peer_that_fails_is_left_out_with_the_reason(peers: Path, script: str, reason: str) -> None:
    peer(peers, "zmq", script)
    result = Result(bench="hop")
    assert run_peer("zmq", "core/programs/zmq_hop.py", [], result) is None
    assert result.notes == [f"zmq is left out: {reason}"]


def waits() -> None:
    time.sleep(60.0)


def waits_in_a_loop() -> None:
    asyncio.run(asyncio.Event().wait())  # type: ignore[arg-type]  # it never comes to what it returns


def hangs_in_closing() -> None:
    async def hang() -> None:
        try:
            await asyncio.sleep(60.0)
        finally:
            await asyncio.sleep(60.0)

    asyncio.run(hang())


@pytest.mark.parametrize("measure", [waits, waits_in_a_loop, hangs_in_closing])
def test_a_peer_in_this_process_that_does_not_end_is_interrupted_and_left_out(
    monkeypatch: pytest.MonkeyPatch, measure: object
) -> None:
    monkeypatch.setattr(rounds, "AGAIN_S", 0.5)
    notes: list[str] = []
    runs = Rounds("glass", notes)
    assert runs.peer("aiortc", "640x480", measure, 0.5) is None  # type: ignore[arg-type]
    assert runs.peer("aiortc", "1280x720", pytest.fail) is None
    assert notes == ["aiortc is left out: it did not end within 0.5 s (640x480)"]


def test_a_round_of_ours_that_does_not_end_is_an_error_and_what_was_found_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(result: Result, quick: bool) -> None:
        result.add("a", "thalweg", 1, "s", took=1.0)
        result.rounds.ours("b", waits)

    monkeypatch.setattr("thalweg.deploy.bench.core.freshness.measure", measure)
    with pytest.raises(RoundError, match=r"bench freshness: thalweg is given up: it did not end within 0.1 s \(b\)"):
        run_bench("freshness", tmp_path / "b.json", quick=True, limit_s=0.1)
    found = json.loads((tmp_path / "b.json").read_text())
    assert [row["case"] for row in found["rows"]] == ["a"] and found["notes"][0].startswith("not complete: ")


@pytest.mark.parametrize(
    "where", sorted({where for b in BENCHES.values() for where in (b.measure, *b.instead.values())})
)
def test_every_benchmark_announces_its_rounds(where: str) -> None:
    name = where.partition(":")[0]
    parts = [f"language.{part}" for part in handoff.PARTS] if name == "language.handoff" else [name]
    for part in parts:
        assert ".rounds" in inspect.getsource(importlib.import_module(f"thalweg.deploy.bench.{part}")), part


def test_a_long_round_is_mentioned_again(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(rounds, "EVERY_S", 0.1)
    runs = Rounds("soak", [])
    runs.expect(1)
    with runs.shown():
        runs.ours("speed", lambda: time.sleep(0.3))
    first, *again = capsys.readouterr().err.splitlines()
    assert first == "bench soak: thalweg: speed (1 of 1)"
    assert again and set(again) == {f"{first}: 0 s"}


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    runs = Rounds("soak", [])
    runs.expect(2)
    with runs.shown():
        runs.ours("speed", lambda: time.sleep(0.3))
        runs.ours("reconnects", lambda: time.sleep(0.3))
    written = terminal.getvalue()
    assert "thalweg: speed" in written and "0/2" in written and "1/2" in written and "━" in written


def test_an_alarm_of_somebody_else_rings_after_the_round() -> None:
    import signal

    rang = []
    before = signal.signal(signal.SIGALRM, lambda *_: rang.append(1))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        Rounds("soak", []).ours("speed", lambda: time.sleep(0.4))
        time.sleep(0.2)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert rang == [1]
