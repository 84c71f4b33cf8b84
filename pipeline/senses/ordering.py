"""Units of one modality put back in order, without waiting longer than one unit.

Theory of operation. Units carry an index. The one that is due is passed on at once, with those that waited behind it.
One that came too early waits until the missing one arrives or `reach` others have arrived after it; then the gap counts
as a loss. Duplicates, and units that arrive after their gap counted as a loss, are dropped and counted.

`pushed == taken + waiting + repeated` at any moment, where `taken` went through.
"""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class Ordering(Generic[T]):
    """Puts items in the order of their indices. `lost`: indices given up; `repeated`: items dropped."""

    def __init__(self, reach: int = 1) -> None:
        self.reach = reach
        self.due = 0
        self.pushed = 0
        self.taken = 0
        self.lost = 0
        self.repeated = 0
        self._waiting: dict[int, T] = {}

    @property
    def waiting(self) -> int:
        """Items that came early."""
        return len(self._waiting)

    def push(self, index: int, item: T, *, last: bool = False) -> list[T]:
        """Take an item; returns what is now in order. `last`: no index beyond this one will come."""
        self.pushed += 1
        if index < self.due or index in self._waiting:
            self.repeated += 1
            return []
        self._waiting[index] = item
        ready = self._run()
        while self._waiting and (len(self._waiting) > self.reach or (last and not ready)):
            ready += self._jump()
        return ready

    def drain(self) -> list[T]:
        """Everything that waits, in order: nothing else will come."""
        ready = self._run()
        while self._waiting:
            ready += self._jump()
        return ready

    def _run(self) -> list[T]:
        ready = []
        while self.due in self._waiting:
            ready.append(self._waiting.pop(self.due))
            self.due += 1
        self.taken += len(ready)
        return ready

    def _jump(self) -> list[T]:
        """Give up what is missing before the earliest that waits."""
        first = min(self._waiting)
        self.lost += first - self.due
        self.due = first
        return self._run()
