"""A hub and a node as processes: what runs, what arrives, and what survives."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import require_package
from tests.deploy.fleet.processes import Fleet, arrived, wait_until

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A hub, and a node that runs the beacon."""
    require_package("cryptography", "hub")
    require_package("aiohttp", "hub")
    with Fleet(tmp_path_factory.mktemp("fleet")) as found:
        found.start_hub()
        found.enrol()
        found.start_node()
        found.roll_out()
        found.seen(lambda row: row["current"] == 1 and row["received"].get("events", 0) > 50)
        yield found


def test_hub_and_node_are_killed_and_nothing_that_was_acknowledged_is_lost_or_doubled(fleet: Fleet) -> None:
    fleet.kill("hub")
    before = arrived(fleet.folder)
    wait_until(lambda: fleet.spooled() > 20_000)
    fleet.kill("node")
    fleet.start_node()
    fleet.start_hub()
    fleet.seen(lambda row: row["boot"] == 2 and row["backlog"]["events"]["records"] < 20 and row["phase"] == "resting")
    after = arrived(fleet.folder)
    assert not before - after
    assert set(after.values()) == {1}
    first = sorted(number for boot, number in after if boot == 1)
    assert first == list(range(len(first))) and len(first) > len(before)


@pytest.mark.parametrize(
    ("fault", "reason", "more"),
    [
        ("crash", "its workers were restarted", ()),
        ("silent", "nothing has come out", ()),
        ("hang", "not ready within 5 s", ("--open", "5")),
        ("freeze", "its workers were restarted", ("--watch", "20")),
    ],
)
def test_a_release_that_does_not_work_is_rolled_back_and_the_one_before_runs_on(
    fleet: Fleet, fault: str, reason: str, more: tuple[str, ...]
) -> None:
    wanted = fleet.roll_out("--set", f"fault={fault}", *more)
    row = fleet.seen(lambda row: row["last"] == wanted)
    assert reason in row["reason"] and row["current"] == 1
    fleet.seen(lambda row: row["pipeline"] == "ready")


def test_a_file_with_another_hash_is_not_run(fleet: Fleet) -> None:
    for path in (fleet.folder / "hub/artefacts").iterdir():
        path.write_bytes(path.read_bytes().replace(b"a", b"b"))
    for path in (fleet.folder / "node/artefacts").iterdir():
        path.unlink()
    fleet.hub("rollback", "1", "--node", "drone-7")
    row = fleet.seen(lambda row: row["last"] == row["wanted"])
    assert "its SHA-256 or size is another" in row["reason"] and row["current"] == 1


def test_a_node_that_was_revoked_is_heard_no_more_and_runs_on(fleet: Fleet) -> None:
    fleet.hub("revoke", "drone-7")
    row = fleet.seen(lambda row: row["seen_s"] > 3)
    assert row["state"] == "revoked"
    assert fleet.processes["node"].poll() is None
