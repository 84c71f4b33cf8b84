"""A node whose disk becomes read-only, or is read-only or full from the start: it says so once, what runs goes on, what
was acknowledged is there, and once the disk takes something it stores again. Real file systems, so it needs root.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require_package
from tests.deploy.fleet.cut_disk import why_not
from tests.deploy.fleet.processes import Fleet, arrived

pytestmark = pytest.mark.real
SAID = "the disk takes nothing"


def own(*command: str | Path) -> str:
    """A command of the system."""
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


class Site:
    """A hub, and a node whose folder is a file system of its own."""

    def __init__(self, fleet: Fleet, image: Path) -> None:
        self.fleet, self.image, self.place = fleet, image, fleet.folder / "node"

    def break_down(self) -> None:
        """An error of the file system: ext4 takes nothing from then on, in files that are open, too."""
        device = Path(own("findmnt", "-n", "-o", "SOURCE", self.place).strip()).name
        Path(f"/sys/fs/ext4/{device}/trigger_fs_error").write_text("1", encoding="ascii")

    def fill(self) -> None:
        """To the last byte."""
        with (self.place / "filler").open("wb", buffering=0) as file:
            try:
                while file.write(bytes(1 << 12)):
                    pass
            except OSError:
                pass

    def spare(self) -> None:
        """There is room again."""
        (self.place / "filler").unlink()

    def mount(self, how: str) -> None:
        """`ro` or `rw`."""
        own("mount", "-o", f"remount,{how}", self.place)

    def said(self, what: str = SAID) -> int:
        """How often the agent has said it."""
        return (self.fleet.folder / "node.log").read_text(encoding="utf-8").count(what)

    def numbers(self) -> dict[int, list[int]]:
        """Boot → numbers of the beacon at the hub, in order; none came twice."""
        found = arrived(self.fleet.folder)
        assert set(found.values()) <= {1}
        boots = {boot for boot, _ in found}
        return {boot: sorted(number for its, number in found if its == boot) for boot in boots}


@contextmanager
def site(folder: Path) -> Iterator[Site]:
    image = folder / "node.img"
    own("truncate", "-s", "24M", image)
    own("mkfs.ext4", "-q", "-F", "-m", "0", image)
    (folder / "node").mkdir()
    own("mount", "-o", "loop,errors=remount-ro", image, folder / "node")
    try:
        with Fleet(folder) as fleet:
            fleet.start_hub()
            fleet.enrol()
            yield Site(fleet, image)
    finally:
        own("umount", "-l", folder / "node")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Site]:
    """It runs the beacon."""
    require_package("cryptography", "hub")
    require_package("aiohttp", "hub")
    if reason := why_not(tmp_path):
        pytest.skip(reason)
    with site(tmp_path) as found:
        found.fleet.start_node()
        found.fleet.roll_out()
        found.fleet.seen(lambda row: row["current"] == 1 and row["received"].get("events", 0) > 50)
        yield found


def test_a_disk_that_becomes_read_only_costs_what_is_new_and_nothing_else(node: Site) -> None:
    node.break_down()
    row = node.fleet.seen(lambda row: row["disk"] and row["refused"].get("events", 0) > 50)
    assert "Read-only" in row["disk"] and row["pipeline"] == "ready" and row["lost"] == {}
    later = node.fleet.seen(lambda now: now["refused"]["events"] > row["refused"]["events"] + 100)
    assert later["seen_s"] < 5 and later["state"] == "here" and later["waits"] < 20 and node.said() == 1

    node.fleet.end("node")
    own("umount", node.place)
    own("sh", "-c", f"e2fsck -p -f {node.image}; test $? -lt 4")
    own("mount", "-o", "loop,errors=remount-ro", node.image, node.place)
    node.fleet.start_node()
    node.fleet.seen(lambda row: row["boot"] == 2 and row["received"]["events"] > later["received"]["events"] + 50)
    first = node.numbers()[1]
    assert first == list(range(len(first)))


def remounted(node: Site) -> Callable[[], Any]:
    node.mount("ro")
    return lambda: node.mount("rw")


def filled(node: Site) -> Callable[[], Any]:
    node.fill()
    return node.spare


@pytest.mark.parametrize(("breaks", "reason"), [(remounted, "Read-only"), (filled, "No space")])
def test_a_node_that_starts_on_a_disk_that_takes_nothing_runs_its_pipeline_and_stores_once_it_does(
    node: Site, breaks: Callable[[Site], Callable[[], Any]], reason: str
) -> None:
    node.fleet.end("node")
    before = node.fleet.seen(lambda row: row["waits"] >= 0)["received"]["events"]
    mend = breaks(node)
    node.fleet.start_node()
    row = node.fleet.seen(lambda row: reason in row["disk"] and row["pipeline"] == "ready" and row["seen_s"] < 1)
    node.fleet.seen(lambda row: row["refused"].get("events", 0) > 50)
    assert row["current"] == 1 and node.said() == 1
    mend()
    node.fleet.seen(lambda row: not row["disk"] and row["received"]["events"] > before + 50)
    assert node.said("takes what is written") == 1
