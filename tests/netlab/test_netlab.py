"""The lab: hosts reach each other over the declared link, and nothing is left of them however it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require_lab
from tests.netlab import Burst, Lab, LabError, Link, lab
from tests.netlab.limits import round_trips_ms, stream_bps
from tests.netlab.processors import ROOT as PROCESSORS
from tests.netlab.processors import processor

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def permitted() -> Iterator[None]:
    require_lab()
    yield
    left = [path.name for path in Path("/run/netns").glob(f"twlab-{os.getpid()}-*")]
    assert left == []


def pings(net: Lab, count: int) -> list[float]:
    return round_trips_ms(net.a, net.b, count)


def test_a_round_trip_takes_both_delays() -> None:
    with lab("a", "b", link=Link(delay_ms=30)) as net:
        quickest = min(pings(net, 10))
    assert 60 <= quickest < 75


def test_a_link_changes_while_it_is_used() -> None:
    with lab("a", "b") as net:
        before = min(pings(net, 5))
        net.change(Link(delay_ms=100), "a", "b")
        after = min(pings(net, 3))
    assert before < 50 and 100 <= after < 150


def test_an_outage_loses_everything_until_it_is_over() -> None:
    with lab("a", "b") as net:
        net.change(Link(outages=((0, 3600),)))
        lost = pings(net, 2)
        net.change(Link())
        back = pings(net, 2)
    assert all(ms != ms for ms in lost) and all(ms == ms for ms in back)


def test_loss_is_counted_by_its_reason_and_logged(tmp_path: Path) -> None:
    with lab("a", "b", link=Link(burst=Burst(enter=1, leave=0, loss=0.5)), seed=5) as net:
        net.log(tmp_path / "packets.csv")
        pings(net, 6)
        counts = net.counts()["links"]["b -> a"]
        rows = (tmp_path / "packets.csv").read_text().splitlines()
    assert counts["sent"] == 6 and counts["burst"] >= 1
    assert sum(",b,a," in row and row.endswith(",burst") for row in rows) == counts["burst"]


def test_the_same_seed_loses_the_same_packets() -> None:
    lost = []
    for _ in range(2):
        with lab("a", "b", link=Link(loss=0.3), seed=11) as net:
            lost.append([ms != ms for ms in pings(net, 8)])
    assert lost[0] == lost[1] and any(lost[0])


def test_a_stream_gets_the_rate_of_the_link_and_no_more() -> None:
    with lab("a", "b", link=Link(rate=5e6, delay_ms=5)) as net:
        bps = stream_bps(net.a, net.b)
    assert 2.5e6 < bps < 5.3e6


def test_three_hosts_have_a_link_each_way_between_any_two() -> None:
    with lab("a", "b", c="10.99.1.7") as net:
        net.change(Link(outages=((0, 3600),)), "c", "a")
        assert net.a.run(["ip", "addr", "show", "net0"]).stdout.count("inet ") == 1
        pings(net, 1)
        assert set(net.counts()["links"]) == {"a -> b", "b -> a", "a -> c", "c -> a", "b -> c", "c -> b"}
        assert net.c.address == "10.99.1.7"


def test_labs_with_the_same_addresses_do_not_meet() -> None:
    with lab("a", "b") as one, lab("a", "b") as other:
        assert len(pings(one, 1)) == len(pings(other, 1)) == 1
        assert one.a.namespace != other.a.namespace
        assert other.counts()["links"]["b -> a"]["sent"] == 1


def test_processes_are_killed_and_hosts_removed_when_a_test_fails() -> None:
    with pytest.raises(ZeroDivisionError), lab("a") as net:  # noqa: PT012
        process = net.a.popen(["sleep", "1000"])
        orphan = net.a.run(["sh", "-c", "sleep 1000 > /dev/null 2>&1 & echo $!"])
        raise ZeroDivisionError
    assert process.returncode == -signal.SIGKILL
    assert not Path(f"/proc/{int(orphan.stdout)}/cmdline").exists() or _dead(int(orphan.stdout))


def _dead(pid: int) -> bool:
    return re.search(r"^State:\s+Z", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"), re.MULTILINE) is not None


def test_a_killed_test_leaves_no_host() -> None:
    code = """
import time
from tests.netlab import lab
with lab("a") as net:
    print(net.a.namespace, flush=True)
    time.sleep(60)
"""
    child = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE
    )
    with child:
        namespace = Path("/run/netns", child.stdout.readline().decode().strip())
        assert namespace.exists()
        child.kill()
    deadline = time.monotonic() + 20
    while namespace.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not namespace.exists()


def test_the_next_lab_removes_what_a_killed_lab_and_relay_left() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    subprocess.run(["ip", "netns", "add", f"twlab-{ended.pid}-abcdef-a"], check=True)
    with lab("a"):
        pass
    assert not Path(f"/run/netns/twlab-{ended.pid}-abcdef-a").exists()


def test_a_lab_that_cannot_be_made_says_why_and_leaves_nothing() -> None:
    with pytest.raises(LabError, match="cannot be called Z"), lab("Z"):
        pass
    with pytest.raises(LabError, match=r"10\.77\.0\.999.*illegal IP address"), lab(a="10.77.0.999"):
        pass


SPIN = """
import time
until_s = time.monotonic() + 1
while time.monotonic() < until_s:
    pass
print(time.process_time())
"""


def test_a_process_gets_its_share_of_a_processor_and_the_group_is_removed() -> None:
    try:
        with processor(0.25) as group:
            used_s = float(subprocess.check_output([*group, sys.executable, "-c", SPIN], text=True))
    except LabError as error:
        pytest.skip(str(error))
    assert used_s < 0.4
    assert not list(PROCESSORS.glob(f"twlab-{os.getpid()}-*"))
