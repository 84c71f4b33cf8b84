"""What a second thread of a language model brings, alone and beside a busy thread: `bench threads`.

Threads of llama.cpp wait for each other after every operation. `thalweg`: two that spin for some microseconds and sleep
then, as on two cores by default; `one`: one thread; `spinning`: two as GCC's OpenMP has them. Each in a process of its
own, by turns; the busy thread is another one, at the same priority. `programs/token_times.py` says what is timed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from thalweg.deploy.bench.result import OURS, Result, quantile

MODEL = "qwen2.5-coder-0.5b-instruct"
TURNS = 3
LIMIT_S = 300.0
_SYSTEMS: Mapping[str, tuple[int, Mapping[str, str]]] = {
    OURS: (2, {}),
    "one": (1, {}),
    "spinning": (2, {"GOMP_SPINCOUNT": "300000"}),
}
_BUSY = "while True: pass"


def measure(result: Result, quick: bool, model: str | None = None) -> None:
    """Rows alone and beside a busy thread."""
    turns = 1 if quick else TURNS
    result.rounds.expect(2 * turns * len(_SYSTEMS))
    for case, busy in (("alone", False), ("beside a busy thread", True)):
        found: dict[str, list[Mapping[str, float]]] = {system: [] for system in _SYSTEMS}
        for turn in range(turns):
            for system in _SYSTEMS:
                times = result.rounds.ours(
                    f"{case}: {system}, turn {turn + 1}",
                    lambda system=system, busy=busy: _times(model or MODEL, system, busy),  # type: ignore[misc]
                    LIMIT_S,
                )
                found[system].append(times)
        for system, rows in found.items():
            middle = {name: quantile([row[name] for row in rows], 0.5) for name in ("token", "tail")}
            result.add(case, system, turns, "ms", **middle)


def _times(model: str, system: str, busy: bool) -> Mapping[str, float]:
    threads, environment = _SYSTEMS[system]
    command = [sys.executable, "-m", "thalweg.deploy.bench.language.programs.token_times", model, str(threads)]
    with _beside(busy):
        done = subprocess.run(
            command, stdout=subprocess.PIPE, encoding="utf-8", check=True, env={**os.environ, **environment}
        )
    found: Mapping[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


@contextmanager
def _beside(busy: bool) -> Iterator[None]:
    if not busy:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", _BUSY])
    try:
        yield
    finally:
        process.kill()
        process.wait()
