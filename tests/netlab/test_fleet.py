"""A node and its hub on hosts of their own, over a link that is slow, loses packets, and goes away."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import require_lab, require_package
from tests.deploy.fleet.processes import Fleet, arrived, wait_until
from tests.netlab import Link, lab

SLOW = Link(delay_ms=40, jitter_ms=5, loss=0.02)


def test_what_is_sent_while_the_link_is_away_arrives_once_when_it_is_back(tmp_path: Path) -> None:
    require_lab()
    require_package("cryptography", "hub")
    require_package("aiohttp", "hub")
    with lab("edge", "cloud", link=SLOW, seed=7) as net, Fleet(tmp_path, net.cloud, net.edge) as fleet:
        fleet.start_hub()
        fleet.enrol()
        fleet.start_node()
        fleet.roll_out()
        fleet.seen(lambda row: row["current"] == 1 and row["received"].get("events", 0) > 20)
        net.change(Link(outages=((0, 3600),)))
        before = arrived(tmp_path)
        wait_until(lambda: fleet.spooled() > 30_000)
        net.change(SLOW)
        fleet.seen(lambda row: row["received"]["events"] > len(before) + 150 and row["seen_s"] < 5)
        most = len(before) + 100
        # what was on its way when the link went comes when that request is given up, after ten seconds at most
        wait_until(lambda: sorted(number for _, number in arrived(tmp_path))[:most] == list(range(most)))
        after = arrived(tmp_path)
    assert set(after.values()) == {1} and not before - after
