"""What the agent of a node takes: `python -m tests.deploy.fleet.agent_cost`. Prints a row idle, and one at work.

Idle: enrolled, the hub there, nothing to run. At work: the beacon, an event of some 200 bytes every 20 ms, each forced
to the disk. Processor time and resident memory of the agent alone, from `/proc`: the pipeline's own processes are as
large as what they run.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from tests.deploy.fleet.processes import Fleet

SETTLE_S, WATCH_S = 5.0, 30.0
_TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Takes a minute and a half."""
    with tempfile.TemporaryDirectory() as folder, Fleet(Path(folder)) as fleet:
        fleet.start_hub()
        fleet.enrol()
        fleet.start_node(report_s=5.0)
        fleet.seen(lambda row: row["state"] == "here")
        watch(fleet, "idle")
        fleet.roll_out()
        fleet.seen(lambda row: row["current"] == 1)
        watch(fleet, "at work")


def watch(fleet: Fleet, what: str) -> None:
    """Print what it takes now."""
    agent = Path(f"/proc/{fleet.processes['node'].pid}")
    time.sleep(SETTLE_S)
    before_s = _cpu_s(agent)
    time.sleep(WATCH_S)
    share = (_cpu_s(agent) - before_s) / WATCH_S
    resident = int((agent / "statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    load = os.getloadavg()[0]
    print(f"{what}: {100 * share:.2f} % of a core, {resident / 1e6:.0f} MB; load average {load:.1f}", flush=True)


def _cpu_s(agent: Path) -> float:
    fields = (agent / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


if __name__ == "__main__":
    main()
