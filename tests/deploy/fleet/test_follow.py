"""The loop that decides where a stage runs, and the lease that it holds."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from thalweg.deploy.fleet.placing import follow
from thalweg.deploy.fleet.placing.follow import Follower
from thalweg.deploy.fleet.placing.lease import Lease
from thalweg.deploy.fleet.placing.lenders import Lender, NodeFolder
from thalweg.pipeline.fleet.moving.placement import Switch
from thalweg.pipeline.fleet.moving.places import PlaceOf, Placing
from thalweg.transports.fleet.lease import LeaseError, frame


class Stage:
    """Where a test says it is."""

    placing = Placing(use="x", stateful=True, places=(PlaceOf(name="edge"), PlaceOf(name="fog")))
    away: Any = None
    stuck = stays = False

    def __init__(self) -> None:
        self.configured: dict[str, Any] = {}

    async def go(self, lease: Lease) -> bool:
        raise ValueError("whatever a stage may raise")


def lease(borrower: Any = None) -> Lease:
    lender = Lender(place="fog", name="fog-1", host="h", port=1)
    found = Lease(lender, borrower, "fog", "x", {}, stateful=True, beat_s=0.1)
    found.ready = True
    return found


def test_a_stage_that_could_not_go_is_where_it_was(tmp_path: Path) -> None:
    async def case() -> None:
        follower = Follower(Stage(), NodeFolder(tmp_path), "x")  # type: ignore[arg-type]
        follower.leases["fog"] = lease()
        follower._placement.place = "fog"  # as decided
        with pytest.raises(ValueError, match="whatever"):
            await follower._go("edge", Switch(target="fog", reason="it is quicker"))
        assert follower._placement.place == "edge"

    asyncio.run(case())


def test_a_lent_worker_that_answers_beats_and_no_packets_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def case() -> None:
        stage = Stage()
        follower = Follower(stage, NodeFolder(tmp_path), "x")  # type: ignore[arg-type]
        stage.away = follower.leases["fog"] = lease()
        stage.away.packet(1, 0, b"")
        await follower._look()
        assert stage.away.ready
        monkeypatch.setattr(follow, "SILENT_NS", 0)
        stage.away._sent[0] = time.monotonic_ns() - 11_000_000_000, 0
        await follower._look()
        assert not stage.away.ready and stage.away._ended == "it lives, and answers no packets"

    asyncio.run(case())


def test_a_lender_that_the_hub_has_revoked_loses_what_it_has_and_gets_nothing(tmp_path: Path) -> None:
    async def case() -> None:
        stage = Stage()
        follower = Follower(stage, NodeFolder(tmp_path), "x")  # type: ignore[arg-type]
        stage.away = held = follower.leases["fog"] = lease()
        await follower._look()
        assert held.ready
        told = {"place": "fog", "name": "fog-1", "host": "", "port": 0, "revoked": True}
        (tmp_path / "lenders.json").write_text(json.dumps([told]), encoding="utf-8")
        await follower._look()
        assert not held.ready
        follower.leases.clear()
        follower._borrow()
        assert follower.leases == {}

    asyncio.run(case())


def test_a_stage_that_stays_gives_back_what_was_lent_once_it_is_home_and_borrows_nothing(tmp_path: Path) -> None:
    async def case() -> None:
        stage = Stage()
        follower = Follower(stage, NodeFolder(tmp_path), "x")  # type: ignore[arg-type]
        told = {"place": "fog", "name": "fog-1", "host": "", "port": 0}
        (tmp_path / "lenders.json").write_text(json.dumps([told]), encoding="utf-8")
        stage.away = held = follower.leases["fog"] = lease()
        follower._placement.place = "fog"
        follower._placement.beat("fog", time.monotonic_ns())
        stage.stays = True
        await follower._look()
        assert held.ready  # an answer there is not cut short
        stage.away = None
        await follower._look()
        assert not held.ready and follower._placement.place == "edge"
        assert [news["reason"] for news in follower._news] == ["what was said stays here"]
        follower.leases.clear()
        await follower._look()
        assert follower.leases == {} and len(follower._news) == 1

    asyncio.run(case())


def test_a_worker_that_is_lent_later_is_told_the_settings_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def case() -> None:
        stage = Stage()
        follower = Follower(stage, NodeFolder(tmp_path), "x")  # type: ignore[arg-type]
        late = lease()
        told: list[Any] = []
        monkeypatch.setattr(late, "configure", told.append)
        monkeypatch.setattr(late, "declare", lambda settings: told.append(("declare", settings)))
        follower.opened(late)
        stage.configured = {"size": "s"}
        follower.opened(late)
        stage.declare = None  # type: ignore[attr-defined]
        follower.opened(late)
        assert told == [{"size": "s"}, ("declare", {"size": "s"})]

    asyncio.run(case())


def test_a_stage_may_report_something_while_it_opens() -> None:
    async def case() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(frame("report", "no graphics card") + frame("open", 10.0) + frame("pong", 1))
        await lease()._open(reader)
        with pytest.raises(LeaseError, match="it answered 'pong'"):
            await lease()._open(reader)

    asyncio.run(case())
