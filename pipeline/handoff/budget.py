"""What may be spent on answers within an hour, and what has been."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

_HOUR_S = 3600.0


@dataclass(slots=True)
class Budget:
    """`per_hour`: of costs, in units of one's own; None: anything."""

    per_hour: float | None = None
    _spent: deque[tuple[float, float]] = field(default_factory=deque)

    def left(self, now_s: float) -> float | None:
        """What may still be spent; None: anything."""
        while self._spent and self._spent[0][0] < now_s - _HOUR_S:
            self._spent.popleft()
        return None if self.per_hour is None else self.per_hour - sum(cost for _, cost in self._spent)

    def pay(self, cost: float, now_s: float) -> None:
        """A backend is asked, and that costs the same on trial."""
        if cost and self.per_hour is not None:
            self._spent.append((now_s, cost))
