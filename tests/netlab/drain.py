"""How old what is new is when it arrives, while a backlog drains: `python -m tests.netlab.drain`, as root. Prints rows.

A node and its hub on hosts of their own, 500 kbit/s and 40 ms apart; a record of some 200 bytes every 20 ms; then no
link for 40 s, and the link again. `python -m tests.netlab.drain hour`: an hour of ten events a second, time-lapsed: as
many as the disk takes, for as long as it takes to have 36,000, over a link of 4 Mbit/s.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.deploy.fleet.processes import Fleet, arrived
from tests.netlab import Link, lab

SLOW = Link(delay_ms=40, jitter_ms=5, rate=500e3, queue_bytes=64_000)
FAST = Link(delay_ms=40, jitter_ms=5, rate=4e6, queue_bytes=64_000)
AWAY_S, LOOK_S, MOST_S = 40.0, 0.5, 90.0
RECORD_BYTES = 150
HOUR, HOUR_AT_MOST_S = 36_000, 300.0


def main(hour: bool) -> None:
    """Print what the hub says of the node, twice a second, until all of the backlog is there."""
    link = FAST if hour else SLOW
    with (
        tempfile.TemporaryDirectory() as folder,
        lab("edge", "cloud", link=link, seed=7) as net,
        Fleet(Path(folder), net.cloud, net.edge) as fleet,
    ):
        fleet.start_hub()
        fleet.enrol()
        fleet.start_node()
        fleet.roll_out(*(["--set", "gap=1"] if hour else []))
        row = fleet.seen(lambda row: row["current"] == 1 and row["received"].get("events", 0) > 20)
        before = row["received"]["events"]
        net.change(Link(outages=((0, 3600),)))
        away_s = _away(fleet, hour)
        net.change(link)
        began_s = time.monotonic()
        while time.monotonic() - began_s < MOST_S and not _is_drained(row, before):
            time.sleep(LOOK_S)
            row = fleet.nodes() or row
            live = row["live"]
            print(
                f"{time.monotonic() - began_s:5.1f} s: {row['waits']:5} wait; of {live.get('count', 0):3} new ones "
                f"p95 {live.get('p95_ms', 0):.0f} ms after capture"
            )
        found = arrived(Path(folder))
        numbers = sorted(number for _, number in found)
        print(f"away for {away_s:.0f} s; {len(numbers)} arrived; doubled: {sum(n > 1 for n in found.values())}")
        first = next((n for n, number in enumerate(numbers) if n != number), len(numbers))
        print(f"without a gap up to number {first}; the newest are on their way")


def _away(fleet: Fleet, hour: bool) -> float:
    """Seconds without a link."""
    began_s = time.monotonic()
    if not hour:
        time.sleep(AWAY_S)
        return AWAY_S
    before = fleet.spooled()
    while fleet.spooled() - before < HOUR * RECORD_BYTES and time.monotonic() - began_s < HOUR_AT_MOST_S:
        time.sleep(LOOK_S)
    return time.monotonic() - began_s


def _is_drained(row: dict[str, Any], before: int) -> bool:
    return bool(row["waits"] < 50 and row["received"]["events"] > before + 1000)


if __name__ == "__main__":
    main("hour" in sys.argv)
