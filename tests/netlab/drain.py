"""How old what is new is when it arrives, while a backlog drains: `python -m tests.netlab.drain`, as root. Prints rows.

A node and its hub on hosts of their own, 500 kbit/s and 40 ms apart; a record of some 200 bytes every 20 ms; then no
link for 40 s, and the link again.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from tests.deploy.fleet.processes import Fleet, arrived
from tests.netlab import Link, lab

SLOW = Link(delay_ms=40, jitter_ms=5, rate=500e3, queue_bytes=64_000)
AWAY_S, LOOK_S, MOST_S = 40.0, 0.5, 60.0


def main() -> None:
    """Print what the hub says of the node, twice a second, until all of the backlog is there."""
    with (
        tempfile.TemporaryDirectory() as folder,
        lab("edge", "cloud", link=SLOW, seed=7) as net,
        Fleet(Path(folder), net.cloud, net.edge) as fleet,
    ):
        fleet.start_hub()
        fleet.enrol()
        fleet.start_node()
        fleet.roll_out()
        row = fleet.seen(lambda row: row["current"] == 1 and row["received"].get("events", 0) > 20)
        before = row["received"]["events"]
        net.change(Link(outages=((0, 3600),)))
        time.sleep(AWAY_S)
        net.change(SLOW)
        began_s = time.monotonic()
        while time.monotonic() - began_s < MOST_S and not _is_drained(row, before):
            time.sleep(LOOK_S)
            row = fleet.nodes() or row
            live = row["live"]
            print(
                f"{time.monotonic() - began_s:5.1f} s: {row['waits']:5} wait; of {live.get('count', 0):3} new ones "
                f"p95 {live.get('p95_ms', 0):.0f} ms after capture"
            )
        print(f"doubled: {sum(count > 1 for count in arrived(Path(folder)).values())}")


def _is_drained(row: dict[str, Any], before: int) -> bool:
    return bool(row["waits"] < 50 and row["received"]["events"] > before + 1000)


if __name__ == "__main__":
    main()
