"""How long to wait before something that failed is tried again."""

from __future__ import annotations

LONGEST_S = 60.0


def pause_s(failures: int) -> float:
    """Seconds after so many failures one after the other: none after 0, then 1, 2, 4 …, a minute at most."""
    return min(LONGEST_S, float(2 ** min(failures - 1, 10))) if failures > 0 else 0.0
