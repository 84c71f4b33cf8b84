"""The lanes of a node go on, whatever has failed in them."""

from __future__ import annotations

import asyncio
import datetime
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require_package
from tests.deploy.fleet.hubs import Hub, hub_at
from thalweg.deploy.fleet import certificates as certs
from thalweg.deploy.fleet.hub.app import LIMITS
from thalweg.deploy.fleet.node.asking import HubRefused
from thalweg.deploy.fleet.node.identity import Identity
from thalweg.deploy.fleet.node.uplink import Uplink
from thalweg.pipeline.fleet.spool_policy import SpoolClass
from thalweg.transports.fleet.spool import Spool


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    require_package("cryptography", "hub")
    require_package("aiohttp", "hub")
    monkeypatch.setattr("thalweg.deploy.fleet.node.uplink.pause_s", lambda failures: 0.05)


@contextmanager
def lanes(identity: Identity, spool: Spool, wanted: Any = lambda generation: None) -> Iterator[Uplink]:
    """An uplink while the block runs."""
    uplink = Uplink(identity, spool, lambda: {"boot": 1, "instance": "a"}, wanted, report_s=0.05)
    uplink.start()
    try:
        yield uplink
    finally:
        uplink.stop()


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def expire(hub: Hub, identity: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a node a working certificate that ended yesterday."""
    key = certs.make_key()
    begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=31)
    with monkeypatch.context() as past:
        past.setattr("cryptography.x509.CertificateBuilder.not_valid_after", _ends_after_30_days(begin))
        past.setattr("cryptography.x509.CertificateBuilder.not_valid_before", lambda it, _: it)
        given = hub.state.renew(identity.name, certs.make_request(key))
    (identity.folder / "working.pem").write_bytes(given + key)


def _ends_after_30_days(begin: datetime.datetime) -> Any:
    from cryptography.x509 import CertificateBuilder

    before, after = CertificateBuilder.not_valid_before, CertificateBuilder.not_valid_after
    return lambda it, _: after(before(it, begin), begin + datetime.timedelta(days=30))


def test_a_node_whose_working_certificate_has_ended_renews_it_and_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def case() -> None:
        async with hub_at(tmp_path) as hub:
            identity = await hub.node("drone-7")
            expire(hub, identity, monkeypatch)
            with identity.client() as client, pytest.raises(HubRefused, match="has ended"):
                await asyncio.to_thread(client.call, "/v1/report", {})
            with lanes(identity, Spool(tmp_path / "spool", 1, 1 << 20)):
                await until(lambda: hub.state.nodes["drone-7"]["report"].get("boot") == 1)

    asyncio.run(case())


def test_what_the_hub_wants_is_heard_though_the_certificate_cannot_be_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[int] = []

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    async def case() -> None:
        async with hub_at(tmp_path) as hub:
            identity = await hub.node("drone-7")
            monkeypatch.setattr(identity, "renewal_due", lambda now_s: True)
            monkeypatch.setattr(identity, "renew", fail)
            with lanes(identity, Spool(tmp_path / "spool", 1, 1 << 20), heard.append):
                await until(lambda: heard)

    asyncio.run(case())


def test_a_lane_goes_on_after_a_mistake_and_it_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def case() -> None:
        async with hub_at(tmp_path) as hub:
            identity = await hub.node("drone-7")
            spool = Spool(tmp_path / "spool", 1, 1 << 20)
            ways = iter([spool.newest] * 2)

            def newest(most_bytes: int, *which: Any) -> list[bytes]:
                if next(ways, None) is not None:
                    raise TypeError("a mistake")
                return Spool.newest(spool, most_bytes, *which)

            spool.newest = newest  # type: ignore[method-assign]
            with caplog.at_level(logging.ERROR), lanes(identity, spool) as uplink:
                spool.append(SpoolClass.EVENTS, "s", b"x", 1)
                await until(lambda: hub.state.records("drone-7").counts["events"] == 1)
                assert all(thread.is_alive() for thread in uplink._threads)
            assert "the live-1 lane failed" in caplog.text

    asyncio.run(case())


def test_a_connection_that_the_hub_has_closed_meanwhile_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thalweg.deploy.fleet.hub.app.LIMITS", replace(LIMITS, header_s=1.0))

    async def case() -> None:
        async with hub_at(tmp_path) as hub:
            with (await hub.node("drone-7")).client() as client:
                await asyncio.to_thread(client.call, "/v1/report", {"boot": 1})
                await asyncio.sleep(2.0)
                await asyncio.to_thread(client.call, "/v1/report", {"boot": 2})
                await asyncio.sleep(2.0)
                hub.state.revoke("drone-7")
                with pytest.raises(HubRefused, match="revoked"):
                    await asyncio.to_thread(client.call, "/v1/report", {"boot": 3})
            assert hub.state.nodes["drone-7"]["report"]["boot"] == 2

    asyncio.run(case())


def test_once_a_report_arrives_the_other_lanes_wait_no_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "thalweg.deploy.fleet.node.uplink.pause_s",
        lambda failures: 0.05 if threading.current_thread().name == "report" else 60.0,
    )

    async def case() -> None:
        async with hub_at(tmp_path) as hub:
            identity = await hub.node("drone-7")
        before = Spool(tmp_path / "spool", 1, 1 << 20)
        before.append(SpoolClass.EVENTS, "s", b"x", 1)
        before.close()
        with lanes(identity, Spool(tmp_path / "spool", 2, 1 << 20)) as uplink:
            await until(lambda: uplink.problem)
            await asyncio.sleep(0.2)
            async with hub_at(tmp_path, identity.address.port) as again:
                await until(lambda: again.state.records("drone-7").counts["events"] == 1)

    asyncio.run(case())
