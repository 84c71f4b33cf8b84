"""The power goes at every step of two rollouts: what a node starts afterwards was committed, and is whole."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require_package
from tests.deploy.fleet.hubs import Hub, hub_at
from tests.deploy.fleet.updating import carry_out
from thalweg.deploy.fleet.node.identity import Identity
from thalweg.deploy.fleet.node.releases import Releases
from thalweg.pipeline.fleet.gate import Gate
from thalweg.pipeline.fleet.rollout import Phase, Record, RolloutEvent, follow

CALLS = ("replace", "link", "symlink", "unlink", "mkdir", "rmdir", "fsync")


class Disk:
    """Copies of a folder as a power cut before each call would leave it: what was not forced to the disk is empty."""

    def __init__(self, folder: Path, copies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cuts: list[Path] = []
        self._folder, self._copies = folder, copies
        self._thread = threading.get_ident()
        self._synced: set[int] = set()
        for name in CALLS:
            monkeypatch.setattr(os, name, self._watched(name, getattr(os, name)))

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **options: Any) -> Any:
            if threading.get_ident() == self._thread:
                self._cut()
                if name == "fsync":
                    self._synced.add(os.fstat(args[0]).st_ino)
            return call(*args, **options)

        return watched

    def _cut(self) -> None:
        self._thread = 0  # copying is not watched
        copy = self._copies / str(len(self.cuts))
        for folder, folders, files in os.walk(self._folder):
            there = copy / Path(folder).relative_to(self._folder)
            there.mkdir(parents=True)
            for name in [*files, *folders]:
                path = Path(folder) / name
                if path.is_symlink():
                    (there / name).symlink_to(os.readlink(path))
                elif path.is_file():
                    kept = path.read_bytes() if path.stat().st_ino in self._synced else b""
                    (there / name).write_bytes(kept)
        self.cuts.append(copy)
        self._thread = threading.get_ident()


def update(identity: Identity) -> None:
    """One rollout."""
    releases = Releases(identity.folder, identity.signing)
    with identity.client() as client:
        carry_out(releases, releases.load(), client)


def started(folder: Path, public: bytes) -> Record:
    """The record after a start from this disk; what it runs, or is about to try, is whole."""
    releases = Releases(folder, public)
    record, _ = follow(releases.load(), RolloutEvent.BOOTED)
    for generation in {record.running, record.candidate if record.phase is Phase.STAGED else 0} - {0}:
        for file in releases.manifest(generation).files:
            data = (releases.path(generation) / "files" / file.path).read_bytes()
            assert hashlib.sha256(data).hexdigest() == file.sha256, (generation, file.path)
    return record


async def roll_out(hub: Hub, folder: Path, generation: int) -> None:
    """Two files, one of them the same as before."""
    (folder / "p.yaml").write_text(f"name: p{generation}", encoding="utf-8")
    (folder / "model.bin").write_bytes(b"model" * 1000)
    files = hub.state.keep({"p.yaml": folder / "p.yaml", "model.bin": folder / "model.bin"})
    hub.state.roll_out("p.yaml", files, {}, Gate(), [])


def test_what_runs_after_a_power_cut_was_committed_and_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_package("cryptography", "hub")
    require_package("aiohttp", "hub")

    def flown(identity: Identity, least: int) -> None:
        with monkeypatch.context() as watching:
            disk = Disk(identity.folder, tmp_path / f"cuts{least}", watching)
            disk._synced |= {path.stat().st_ino for path in identity.folder.rglob("*")}
            update(identity)
        assert len(disk.cuts) > 20
        for cut in disk.cuts:
            record = started(cut, identity.signing)
            assert least <= record.current <= least + 1, cut

    async def case() -> None:
        async with hub_at(tmp_path) as hub:
            identity = await hub.node("drone-7")
            for generation in (1, 2):
                await roll_out(hub, tmp_path, generation)
                await asyncio.to_thread(flown, identity, generation - 1)

    asyncio.run(case())
