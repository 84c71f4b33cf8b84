"""What a node fetches is what was signed, whole, and nothing else; what is pointed at is there."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import require_package
from tests.deploy.fleet.hubs import Hub, hub_at
from thalweg.deploy.fleet import certificates as certs
from thalweg.deploy.fleet.errors import FleetError
from thalweg.deploy.fleet.manifest import Artefact, Manifest, opened, sealed
from thalweg.deploy.fleet.node.asking import HubClient, HubRefused
from thalweg.deploy.fleet.node.identity import Identity
from thalweg.deploy.fleet.node.releases import ReleaseRefused, Releases
from thalweg.pipeline.fleet.gate import Gate
from thalweg.pipeline.fleet.rollout import Record

LARGE = bytes(range(256)) * 4000


@dataclass(frozen=True, slots=True)
class Site:
    """A hub that wants a release, and a node that has none."""

    hub: Hub
    identity: Identity
    releases: Releases

    def fetch(self) -> int:
        """Get what the hub wants; its generation."""
        with self.identity.client() as client:
            manifest, text = self.releases.ask(client)
            self.releases.fetch(client, manifest, text)
        return manifest.generation


@asynccontextmanager
async def site(folder: Path) -> AsyncIterator[Site]:
    require_package("aiohttp", "hub")
    async with hub_at(folder) as hub:
        identity = await hub.node("drone-7")
        (folder / "p.yaml").write_bytes(b"name: p")
        (folder / "model.bin").write_bytes(LARGE)
        files = {"p.yaml": folder / "p.yaml", "models/model.bin": folder / "model.bin"}
        hub.state.roll_out("p.yaml", hub.state.keep(files), {"a": "b"}, Gate(missed=0.1), [])
        yield Site(hub, identity, Releases(identity.folder, identity.signing))


def test_a_release_is_laid_out_whole_and_a_beginning_is_gone_on_with(tmp_path: Path) -> None:
    async def case() -> None:
        async with site(tmp_path) as it:
            file = next(
                f for f in opened(it.hub.state.manifest("drone-7") or b"", it.identity.signing).files if f.size > 99
            )
            (it.identity.folder / "artefacts" / f"{file.sha256}.part").write_bytes(LARGE[:100_000])
            assert await asyncio.to_thread(it.fetch) == 1
            assert (it.releases.path(1) / "files/models/model.bin").read_bytes() == LARGE
            manifest = it.releases.manifest(1)
            assert (manifest.settings, manifest.gate.missed) == ({"a": "b"}, 0.1)
            it.releases.point(1)
            assert os.readlink(it.identity.folder / "current") == "releases/1"

    asyncio.run(case())


@pytest.mark.parametrize("begun", [b"wrong" * 20_000, b""])
def test_a_file_that_is_not_what_was_signed_is_refused(tmp_path: Path, begun: bytes) -> None:
    async def case() -> None:
        async with site(tmp_path) as it:
            for path in (it.hub.folder / "hub/artefacts").iterdir():
                if path.stat().st_size > 99:
                    path.write_bytes(begun + LARGE[len(begun) + 1 :] + b"x")
            with pytest.raises(ReleaseRefused, match="SHA-256 or size is another"):
                await asyncio.to_thread(it.fetch)
            assert not it.releases.path(1).exists()

    asyncio.run(case())


def test_a_release_that_is_too_big_for_the_disk_is_refused_before_it_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def case() -> None:
        async with site(tmp_path) as it:
            monkeypatch.setattr("thalweg.deploy.fleet.node.releases.SPARE_BYTES", 1 << 60)
            with pytest.raises(ReleaseRefused, match="of the disk are free"):
                await asyncio.to_thread(it.fetch)

    asyncio.run(case())


def test_a_manifest_of_another_signer_is_not_run(tmp_path: Path) -> None:
    async def case() -> None:
        async with site(tmp_path) as it:
            releases = Releases(it.identity.folder, certs.public_of(certs.make_signing_key()))
            with it.identity.client() as client, pytest.raises(FleetError, match="signature is not that of the hub"):
                await asyncio.to_thread(releases.ask, client)

    asyncio.run(case())


def test_artefacts_of_other_nodes_are_not_given(tmp_path: Path) -> None:
    def ask(client: HubClient, sha: str) -> None:
        client.get(f"/v1/artefacts/{sha}")

    async def case() -> None:
        async with site(tmp_path) as it:
            other = await it.hub.node("boat-1")
            sha = opened(it.hub.state.manifest("drone-7") or b"", it.identity.signing).files[0].sha256
            with other.client() as client, pytest.raises(HubRefused, match="No release of this node"):
                await asyncio.to_thread(ask, client, sha)

    asyncio.run(case())


def test_what_no_release_needs_is_removed_and_a_torn_record_is_begun_from_current(tmp_path: Path) -> None:
    async def case() -> None:
        async with site(tmp_path) as it:
            await asyncio.to_thread(it.fetch)
            it.releases.point(1)
            (it.identity.folder / "rollout.json").write_bytes(b'{"phase": "resti')
            assert it.releases.load() == Record(current=1, highest=1)
            it.releases.tidy(Record(current=1, highest=1))
            assert len(list((it.identity.folder / "artefacts").iterdir())) == 2
            it.releases.tidy(Record())
            assert list((it.identity.folder / "artefacts").iterdir()) == []

    asyncio.run(case())


@pytest.mark.parametrize("path", ["/etc/passwd", "../up", "a/../../up", "", "a\0b"])
def test_a_manifest_that_leads_out_of_its_folder_is_refused(path: str) -> None:
    require_package("cryptography", "hub")
    key = certs.make_signing_key()
    bad = Artefact(path=path, sha256="0" * 64, size=1)
    text = sealed(Manifest(generation=1, pipeline=path, files=(bad,)), key)
    with pytest.raises(FleetError, match="leads out of its release"):
        opened(text, certs.public_of(key))


@pytest.mark.parametrize("text", [b"", b"{}", b'{"manifest": 5, "signature": 6}', b"\xff", json.dumps([]).encode()])
def test_bytes_that_are_no_manifest_are_refused(text: bytes) -> None:
    require_package("cryptography", "hub")
    with pytest.raises(FleetError):
        opened(text, bytes(32))
