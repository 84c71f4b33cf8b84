"""A long benchmark in pieces: what was found is written down at once, and a later run goes on from there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from thalweg.deploy.bench.rounds import Rounds

LIMIT_S = 3_600.0
"""Of one piece."""


class Journal:
    """Findings by key, in a file of JSON lines beside the result, if there is one.

    A run that is stopped, or whose `minutes` are over, loses the piece in hand and nothing else. Findings of another
    `method` (a version that is raised when old numbers no longer compare) are left alone and not used. Pieces are
    announced and bounded by `rounds`.
    """

    def __init__(
        self, path: Path | None, method: str, *, minutes: float | None = None, rounds: Rounds | None = None
    ) -> None:
        self.done = 0
        self.left = 0
        self._path = path
        self._method = method
        self._rounds = rounds or Rounds("", [])
        self._ends = None if minutes is None else time.monotonic() + 60 * minutes
        self._known: dict[str, Any] = {}
        self._torn = False
        if path is not None and path.exists():
            text = path.read_text(encoding="utf-8")
            self._torn = not text.endswith("\n")
            for line in text.splitlines():
                entry = _parsed(line)
                if entry is not None and entry.get("method") == method:
                    self._known[entry["key"]] = entry["found"]

    def find(self, key: str, measure: Callable[[], Any]) -> Any | None:
        """What is known for a key, or what `measure` finds now, as JSON; None where the time is over."""
        if key in self._known:
            return self._known[key]
        if self._ends is not None and time.monotonic() >= self._ends:
            self.left += 1
            return None
        found = json.loads(json.dumps(self._rounds.ours(key, measure, LIMIT_S)))
        self._known[key] = found
        self.done += 1
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write("\n" * self._torn + json.dumps({"method": self._method, "key": key, "found": found}) + "\n")
            self._torn = False
        return found


def _parsed(line: str) -> dict[str, Any] | None:
    """A line of the journal; None for one that was cut off."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and "key" in entry and "found" in entry else None
