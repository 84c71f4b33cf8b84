"""What a unit test must not do, held while each of them runs: `make quick` stays quick because of this file.

A test is a unit test unless it lies in a folder of `REAL_FOLDERS`, uses a fixture of `REAL_FIXTURES` or is marked
`real`. A unit test starts no process, reaches no further than loopback, wants no model that has to be fetched, and
takes at most `LIMIT_S` of processor time. One that does more fails in every run, whichever it is part of, and the
failure says what to do.

Python tells of processes and connections by audit events (PEP 578), wherever they are begun. What C libraries do by
themselves it does not see.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

REAL_FOLDERS = ("e2e", "bench", "netlab", "deploy/cluster", "deploy/server", "transports/grpc", "transports/webrtc")
REAL_FIXTURES = frozenset({"voice_demo"})
LIMIT_S = 5.0
NO_MODELS = f"{os.devnull}/models"  # where nothing lies, and nothing can be written
REMEDY = "mark it with @pytest.mark.real, or do without"

_PROCESSES = frozenset(
    {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.exec", "os.system"}
)
_ASKS = ("uname", "lscpu", "file")
"""Programs by which libraries ask what machine this is, once and in no time."""
_CONNECTIONS = frozenset({"socket.connect", "socket.sendto"})
_LOOK_UPS = frozenset({"socket.getaddrinfo", "socket.gethostbyname"})
_HERE = ("", "localhost", "::1", "::", "0.0.0.0")
"""Loopback, and the addresses that mean it when they are connected to."""


class UnitTestError(RuntimeError):
    """A unit test did what it must not."""


class _Guard:
    """What the unit test under way has done; only one of them runs at a time."""

    def __init__(self) -> None:
        self.running = False
        self.found: list[str] = []
        sys.addaudithook(self._heard)

    def _heard(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.running:
            return
        if event in _PROCESSES and not (args and args[0] in _ASKS):
            self.refuse(f"starts a process ({event} {args[0] if args else ''})")
        elif event in _CONNECTIONS and args[0].family != socket.AF_UNIX and not _is_here(args[-1][0]):
            self.refuse(f"reaches for the network ({event} {args[-1]})")
        elif event in _LOOK_UPS and not _is_here(args[0]):
            self.refuse(f"looks for a host on the network ({event} {args[0]!r})")

    def refuse(self, what: str) -> None:
        self.found.append(what)
        raise UnitTestError(f"a unit test {what}; {REMEDY}")


def _is_here(host: object) -> bool:
    name = host.decode() if isinstance(host, bytes) else str(host or "")
    return name in _HERE or name.startswith("127.")


_GUARD = _Guard()


def is_unit(item: pytest.Item, tests: Path) -> bool:
    """Whether the guard watches this test."""
    folder = item.path.parent.relative_to(tests).as_posix()
    in_real = any(folder == real or folder.startswith(f"{real}/") for real in REAL_FOLDERS)
    return not (in_real or item.get_closest_marker("real") or REAL_FIXTURES & set(getattr(item, "fixturenames", ())))


def refuse_model(command: str) -> None:
    """A test wants a model that has to be fetched: unit tests must not."""
    if _GUARD.running:
        _GUARD.refuse(f"wants a model (`{command}`)")


@contextmanager
def watched(limit_s: float | None) -> Iterator[None]:
    """Around one phase of a unit test. Raises UnitTestError where it did what it must not, if it caught that or not."""
    cache, outer = os.environ.get("THALWEG_CACHE"), (_GUARD.running, _GUARD.found)
    os.environ["THALWEG_CACHE"] = NO_MODELS
    _GUARD.running, _GUARD.found = True, []
    began = time.process_time()
    try:
        yield
    finally:
        found, spent = _GUARD.found, time.process_time() - began
        _GUARD.running, _GUARD.found = outer
        if cache is None:
            os.environ.pop("THALWEG_CACHE", None)
        else:
            os.environ["THALWEG_CACHE"] = cache
    if found:
        raise UnitTestError(f"a unit test {found[0]}; {REMEDY}")
    if limit_s is not None and spent > limit_s:
        raise UnitTestError(f"a unit test takes {spent:.1f} s of processor time, {limit_s:g} s are the limit; {REMEDY}")
