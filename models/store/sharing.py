"""Models that several pipelines of one process use together: loaded for the first, freed behind the last."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Entry:
    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0
    value: Any = None
    loaded: bool = False
    free: Callable[[Any], None] | None = None


_entries: dict[Hashable, _Entry] = {}
_guard = threading.Lock()


class Share(Generic[T]):
    """One user's hold on `value`. `release` gives it up; the last one frees it. From any thread."""

    def __init__(self, key: Hashable, make: Callable[[], T], free: Callable[[T], None] | None = None) -> None:
        with _guard:
            entry = _entries.setdefault(key, _Entry())
            entry.users += 1
        self._key: Hashable | None = key
        try:
            with entry.lock:  # later callers wait until the first has loaded it
                if not entry.loaded:
                    entry.value, entry.free, entry.loaded = make(), free, True
        except BaseException:
            self.release()
            raise
        self.value: T = entry.value

    def release(self) -> None:
        """Idempotent."""
        key, self._key = self._key, None
        if key is None:
            return
        with _guard:
            entry = _entries[key]
            entry.users -= 1
            if entry.users:
                return
            del _entries[key]
        if entry.loaded and entry.free is not None:
            entry.free(entry.value)


def let_go(loading: asyncio.Future[Share[Any]]) -> None:
    """Release what was loaded on a thread for a user who was closed meanwhile: a callback of that future."""
    if not loading.cancelled() and loading.exception() is None:
        loading.result().release()
