"""How the machine is that a pipeline runs on, as Linux tells it: heat, processors, battery."""

from __future__ import annotations

from pathlib import Path

from thalweg.models.store.bounded import read_at_most

LARGEST = 1 << 20
COLDEST_C, HOTTEST_C = -40.0, 150.0
"""What is beyond is a sensor that fails."""


class Machine:
    """`root`: the folder that `sys` and `proc` are in. What cannot be read is None. A read takes some milliseconds."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._ticks: tuple[int, int] | None = None

    def heat_c(self) -> float | None:
        """The hottest of its thermal zones, °C."""
        found = [_number(path) for path in self._root.glob("sys/class/thermal/thermal_zone*/temp")]
        degrees = [value / 1000 for value in found if value is not None]
        return max((each for each in degrees if COLDEST_C <= each <= HOTTEST_C), default=None)

    def busy(self) -> float | None:
        """How much of all its processors was busy since this was asked last, 0…1; None the first time."""
        try:
            line = read_at_most(self._root / "proc/stat", LARGEST).partition(b"\n")[0]
            numbers = [int(each) for each in line.split()[1:9]]  # user … steal; guests are in user already
            now = sum(numbers), numbers[3] + numbers[4]  # all; idle and waiting for a disk
        except (OSError, ValueError, IndexError):
            self._ticks = None
            return None
        before, self._ticks = self._ticks, now
        if before is None or now[0] <= before[0]:
            return None
        return max(0.0, min(1.0, 1 - (now[1] - before[1]) / (now[0] - before[0])))

    def battery(self) -> float | None:
        """What is left in its weakest battery, 0…1."""
        found = [_number(path) for path in self._root.glob("sys/class/power_supply/*/capacity")]
        return min((value / 100 for value in found if value is not None and 0 <= value <= 100), default=None)


def _number(path: Path) -> float | None:
    try:
        return float(read_at_most(path, LARGEST))
    except (OSError, ValueError):
        return None
