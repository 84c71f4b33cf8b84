"""What a hub has to do with lending: who may, who may borrow, and where."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require_package
from tests.deploy.fleet.hubs import Hub, hub_at
from thalweg.deploy.fleet import certificates as certs
from thalweg.deploy.fleet.errors import FleetError
from thalweg.deploy.fleet.hub.overview import overview
from thalweg.deploy.fleet.hub.page import HubPage
from thalweg.deploy.fleet.hub.state import LENDING_S
from thalweg.deploy.fleet.lending.run import Lending
from thalweg.deploy.fleet.node.asking import HubRefused
from thalweg.deploy.fleet.node.identity import Identity, enrol
from thalweg.deploy.fleet.placing.lenders import NodeFolder


@pytest.fixture(autouse=True)
def packages() -> None:
    require_package("cryptography", "hub")
    require_package("aiohttp", "hub")


async def fog(hub: Hub, name: str = "fog-1") -> Identity:
    """A machine that may lend."""
    folder = hub.folder / f"node-{name}"
    await asyncio.to_thread(enrol, folder, hub.address, hub.state.new_code(name, "fog"))
    return Identity(folder)


def full(*_: object, **__: object) -> None:
    """In place of `replace_file`."""
    raise OSError(28, "No space left on device")


def report(identity: Identity) -> Any:
    with identity.client() as client:
        return client.call("/v1/report", {"instance": identity.instance, "streams": []})


def test_a_node_hears_of_lenders_and_lenders_of_nodes(tmp_path: Path) -> None:
    async def case() -> None:
        async with hub_at(tmp_path) as hub:
            lender, node = await fog(hub), await hub.node("drone-7")
            lending = Lending(lender, "")
            await asyncio.to_thread(lending.renew)
            subject = certs.times_of(lending.files.lender.read_bytes())
            assert subject[0] < time.time() < subject[1]
            lending.port = 7444
            await asyncio.to_thread(lending.tell, {}, 2)
            node.lenders_are((await asyncio.to_thread(report, node))["lenders"])
            assert [str(found) for found in NodeFolder(node.folder).lenders()] == ["fog-1 (127.0.0.1:7444)"]
            serial = int(hub.state.nodes["drone-7"]["serials"]["working"][0])
            assert lending.admits("drone-7", "working", serial) == ""
            assert lending.admits("drone-7", "renewal", serial) and lending.admits("drone-7", "working", 3)
            hub.state.revoke("drone-7")
            await asyncio.to_thread(lending.tell, {}, 2)
            assert "may no more" in lending.admits("drone-7", "working", serial)
            assert "may no more" in Lending(lender, "").admits("drone-7", "working", serial)  # it was written down

    asyncio.run(case())


def test_a_lender_that_is_silent_or_revoked_is_named_no_more(tmp_path: Path) -> None:
    async def case() -> None:
        async with hub_at(tmp_path) as hub:
            await fog(hub)
            hub.state.lending("fog-1", "10.0.0.2", 7444, 1, 1000.0)
            assert [found["host"] for found in hub.state.lenders(1000.0 + LENDING_S - 1)] == ["10.0.0.2"]
            assert hub.state.lenders(1000.0 + LENDING_S) == []
            hub.state.revoke("fog-1")
            told = hub.state.lenders(1000.0)
            assert told == [{"place": "fog", "name": "fog-1", "host": "", "port": 0, "revoked": True}]
            node = await hub.node("drone-7")
            node.lenders_are(told)
            assert [lender.revoked for lender in NodeFolder(node.folder).lenders()] == [True]

    asyncio.run(case())


def test_only_those_enrolled_for_it_may_lend_and_only_at_a_place_that_has_a_name(tmp_path: Path) -> None:
    async def case() -> None:
        async with hub_at(tmp_path) as hub:
            node = await hub.node("drone-7")
            lending = Lending(node, "")
            await asyncio.to_thread(lending.renew)
            with pytest.raises(FleetError, match="was not enrolled to lend"):
                lending.files  # noqa: B018

            def tell() -> None:
                with node.client() as client:
                    client.call("/v1/lending", {"port": 7444})

            with pytest.raises(HubRefused):
                await asyncio.to_thread(tell)
            for wrong in ("edge", "Fog", "a b"):
                with pytest.raises(FleetError):
                    hub.state.new_code("fog-2", wrong)

    asyncio.run(case())


def test_a_node_shows_where_its_stages_are_and_nothing_of_it_is_markup(tmp_path: Path) -> None:
    async def case() -> None:
        async with hub_at(tmp_path) as hub:
            await hub.node("drone-7")
            told = {"place detector": "fog: fog-1, since fog is quicker", "place <b>": "<script>", "armed": True}
            hub.state.heard("drone-7", {"instance": "a", "vehicle": told}, time.time())
            (row,) = overview(hub.state)
            assert row["places"] == {"detector": "fog: fog-1, since fog is quicker", "<b>": "<script>"}
            assert HubPage(hub.state).application

    asyncio.run(case())


def test_a_full_disk_keeps_no_report_from_being_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def case() -> None:
        async with hub_at(tmp_path) as hub:
            node = await hub.node("drone-7")
            told = [{"place": "fog", "name": "a", "host": "h", "port": 1}]

            with monkeypatch.context() as disk:
                disk.setattr("thalweg.deploy.fleet.node.disk.replace_file", full)
                node.lenders_are(told)
                node.heard(2e9)
            assert node.floor_s == 2e9
            assert not (node.folder / "lenders.json").exists()
            node.lenders_are(told)
            assert (node.folder / "lenders.json").exists()

    asyncio.run(case())


def test_a_full_disk_costs_a_node_no_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def case() -> None:
        async with hub_at(tmp_path) as hub:
            node = await hub.node("drone-7")
            with monkeypatch.context() as disk:
                disk.setattr("thalweg.deploy.fleet.node.identity.replace_file", full)
                for _ in range(5):
                    with pytest.raises(OSError, match="No space"):
                        await asyncio.to_thread(node.renew)
            await asyncio.to_thread(report, node)  # by the certificate that it has
            before = (node.folder / "working.pem").read_bytes()
            await asyncio.to_thread(node.renew)
            assert (node.folder / "working.pem").read_bytes() != before
            assert not list(node.folder.glob("*.key")) and not list(node.folder.glob(".*.key"))
            await asyncio.to_thread(report, node)

    asyncio.run(case())


def test_who_was_revoked_may_borrow_no_more_though_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def case() -> None:
        async with hub_at(tmp_path) as hub:
            lender, _ = await fog(hub), await hub.node("drone-7")
            lending = Lending(lender, "")
            lending.port = 7444
            await asyncio.to_thread(lending.tell, {}, 2)
            serial = int(hub.state.nodes["drone-7"]["serials"]["working"][0])
            hub.state.revoke("drone-7")
            with monkeypatch.context() as disk:
                disk.setattr("thalweg.deploy.fleet.lending.run.replace_file", full)
                await asyncio.to_thread(lending.tell, {}, 2)
            assert "may no more" in lending.admits("drone-7", "working", serial)
            await asyncio.to_thread(lending.tell, {}, 2)
            assert "drone-7" not in json.loads((lender.folder / "admitted.json").read_bytes())

    asyncio.run(case())


@pytest.mark.parametrize("told", [3, [3], [{"place": "fog"}], [{"place": "fog", "name": "a", "host": "", "port": 1}]])
def test_lenders_that_are_none_are_refused_and_those_before_stay(tmp_path: Path, told: Any) -> None:
    async def case() -> None:
        async with hub_at(tmp_path) as hub:
            node = await hub.node("drone-7")
            node.lenders_are([{"place": "fog", "name": "a", "host": "h", "port": 1}])
            with pytest.raises(FleetError):
                node.lenders_are(told)
            assert len(json.loads((node.folder / "lenders.json").read_bytes())) == 1

    asyncio.run(case())
