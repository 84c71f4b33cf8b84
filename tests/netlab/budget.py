"""What telemetry waits for beside video, and how much of a link they use: `python -m tests.netlab.budget`, as root.

A node and its hub on hosts of their own, 500 kbit/s and 40 ms apart; 200 bytes ten times a second, and video that
begins with 600 kbit/s and follows what it is told. After twenty seconds, for forty: the age of telemetry from capture
to the hub's acknowledgement (p95 of each half second; of those the median, the 95th percentile, which the p95 of all is
at most, and the worst: of some five records), and the bytes that the link carried.
"""

from __future__ import annotations

import csv
import tempfile
import time
from pathlib import Path
from statistics import median

from tests.deploy.fleet.processes import Fleet
from tests.netlab import Link, lab

RATE_BPS = 500e3
SLOW = Link(delay_ms=40, jitter_ms=2, rate=RATE_BPS, queue_bytes=64_000)
BEGIN_S, SECONDS, LOOK_S = 20.0, 40.0, 0.5


def main() -> None:
    """Print it."""
    here = Path(__file__).parent
    with (
        tempfile.TemporaryDirectory() as folder,
        lab("edge", "cloud", link=Link(delay_ms=40), seed=7) as net,
        Fleet(Path(folder), net.cloud, net.edge) as fleet,
    ):
        fleet.start_hub()
        fleet.enrol()
        fleet.start_node()
        files = str(here / "shared.yaml"), "--file", str(here / "shared_link.py")
        fleet.hub("rollout", *files, "--watch", "2", "--open", "60")
        fleet.seen(lambda row: row["current"] == 1 and row["received"].get("telemetry", 0) > 20)
        net.change(SLOW)
        time.sleep(BEGIN_S)
        path = Path(folder, "packets.csv")
        net.log(path)
        began_ns, ages = time.monotonic_ns(), []
        while time.monotonic_ns() - began_ns < SECONDS * 1e9:
            time.sleep(LOOK_S)
            live = (fleet.nodes() or {}).get("live", {})
            if live.get("count"):
                ages.append(float(live["p95_ms"]))
        ended_ns = time.monotonic_ns()
        carried = 0
        with path.open(encoding="utf-8") as rows:
            for row in csv.DictReader(rows):
                if row["fate"] == "delivered" and row["from"] == "edge" and int(row["time_ns"]) < ended_ns:
                    carried += int(row["bytes"])
        used = carried * 8e9 / (ended_ns - began_ns) / RATE_BPS
        of_all = sorted(ages)[int(0.95 * (len(ages) - 1))]
        print(
            f"telemetry p95 of {len(ages)} half seconds: median {median(ages):.0f} ms, p95 {of_all:.0f} ms, worst "
            f"{max(ages):.0f} ms"
        )
        print(f"used: {used:.0%}; waiting: {(fleet.nodes() or {}).get('backlog')}")


if __name__ == "__main__":
    main()
