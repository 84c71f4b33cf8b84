"""What the hub's page does: only with the key, only what the hub's own commands would do, and it says why not."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require_package
from tests.deploy.door.doors import answer
from tests.deploy.fleet.processes import HERE
from thalweg.deploy.door.listening import listening
from thalweg.deploy.fleet.hub.acting import page_key
from thalweg.deploy.fleet.hub.commanding import Commanding
from thalweg.deploy.fleet.hub.page import HubPage
from thalweg.deploy.fleet.hub.serve import _calls
from thalweg.deploy.fleet.hub.state import HubState

BEACON = (HERE / "beacon.yaml").read_bytes()
SHA = hashlib.sha256(BEACON).hexdigest()


@pytest.fixture
def state(tmp_path: Path) -> Iterator[HubState]:
    require_package("cryptography", "hub")
    require_package("aiohttp", "hub")
    found = HubState(tmp_path / "hub")
    found.nodes["boat-1"] = {"revoked": False, "desired": 0, "serials": {}, "instances": []}
    (tmp_path / "hub/nodes/boat-1").mkdir()
    yield found
    found.close()


def asked(state: HubState, *requests: tuple[str, Any], key: str | None = None) -> list[tuple[int, dict[str, Any]]]:
    """Send these to the page, one after the other; status and what was answered."""

    async def case() -> list[tuple[int, dict[str, Any]]]:
        page, found = HubPage(state, _calls(state, Commanding())), []
        shown = page_key(state.folder) if key is None else key
        async with listening(page.door, page.application, "127.0.0.1", 0) as port:
            for what, told in requests:
                body = told if isinstance(told, bytes) else json.dumps(told).encode()
                head = f"{what} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {shown}\r\n"
                head += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
                status, _, said = await answer(port, head.encode() + body)
                found.append((status, json.loads(said) if said else {}))
        return found

    return asyncio.run(case())


def test_a_key_that_a_full_disk_cut_short_opens_nothing_and_is_made_anew(state: HubState) -> None:
    (state.folder / "page.key").write_text("", encoding="utf-8")
    revoke = "POST /revoke", {"node": "boat-1"}
    assert [status for status, _ in asked(state, revoke, key="")] == [401]
    assert len(page_key(state.folder)) == 32 and not state.nodes["boat-1"]["revoked"]


def test_files_are_taken_checked_and_rolled_out(state: HubState) -> None:
    rollout = {"pipeline": "beacon.yaml", "files": {"beacon.yaml": SHA}, "nodes": ["boat-1"], "watch_s": 2}
    taken, done = asked(state, ("PUT /files", BEACON), ("POST /rollout", rollout))
    assert taken == (200, {"sha256": SHA}) and done == (200, {"generation": 1, "nodes": ["boat-1"]})
    (manifest,) = state.manifests(5)
    assert (manifest.pipeline, manifest.gate.watch_ns, manifest.files[0].sha256) == ("beacon.yaml", 2_000_000_000, SHA)
    ((status, told),) = asked(state, ("POST /rollback", {"generation": 1, "nodes": ["boat-1"]}))
    assert (status, told["generation"], state.nodes["boat-1"]["desired"]) == (200, 2, 2)
    assert asked(state, ("POST /revoke", {"node": "boat-1"})) == [(200, {})] and state.nodes["boat-1"]["revoked"]


@pytest.mark.parametrize("key", ["", "x", "y" * 32])
def test_without_the_key_nothing_is_done(state: HubState, key: str) -> None:
    every = ("PUT /files", b"x"), ("POST /rollout", {}), ("POST /rollback", {}), ("POST /revoke", {"node": "boat-1"})
    every += (("POST /video", {"node": "boat-1"}),)
    assert {status for status, _ in asked(state, *every, ("GET /key", b""), key=key)} == {401}
    assert not state.nodes["boat-1"]["revoked"] and not list((state.folder / "artefacts").iterdir())


@pytest.mark.parametrize(
    ("told", "status", "word"),
    [
        ({"node": "boat-1"}, 409, "has not reported"),
        ({"node": "boat-9"}, 409, "no node"),
        ({"node": "boat-1", "seconds": 601}, 400, "seconds"),
        ({"seconds": 5}, 400, "node"),
    ],
)
def test_video_that_cannot_be_asked_for_is_refused_with_the_reason(
    state: HubState, told: dict[str, Any], status: int, word: str
) -> None:
    state.nodes["boat-1"]["report"] = {}
    ((found, said),) = asked(state, ("POST /video", told))
    assert found == status and word in said["message"]


def test_a_stranger_cannot_make_the_hub_keep_something_long_in_memory(state: HubState) -> None:
    assert [status for status, _ in asked(state, ("PUT /files", b"x" * 70_000), key="x")] == [413]


def test_the_key_is_the_owners_alone_and_stays(state: HubState) -> None:
    key = page_key(state.folder)
    assert len(key) == 32 and key == page_key(state.folder)
    assert (state.folder / "page.key").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("change", "status", "word"),
    [
        ({"files": {"../beacon.yaml": SHA}, "pipeline": "../beacon.yaml"}, 400, "name of a file"),
        ({"files": {"beacon.yaml": "0" * 64}}, 400, "was not sent"),
        ({"files": {"beacon.yaml": "../signing.key"}}, 400, "was not sent"),
        ({"pipeline": "other.yaml"}, 400, "none of the files"),
        ({"watch_s": float("inf")}, 400, "watch_s"),
        ({"missed": True}, 400, "missed"),
        ({"nodes": "boat-1"}, 400, "nodes"),
        ({"nodes": ["boat-9"]}, 409, "no node"),
        ({"outputs": ["uq"]}, 422, "uq"),
        ({"settings": {"unknown": "1"}}, 422, "unknown"),
    ],
)
def test_what_cannot_be_rolled_out_is_refused_with_the_reason(
    state: HubState, change: dict[str, Any], status: int, word: str
) -> None:
    told = {"pipeline": "beacon.yaml", "files": {"beacon.yaml": SHA}, "nodes": ["boat-1"], **change}
    _, (found, said) = asked(state, ("PUT /files", BEACON), ("POST /rollout", told))
    assert found == status and word in said["message"] and "/tmp" not in said["message"]
    assert state.nodes["boat-1"]["desired"] == 0


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"[" * 100_000])
def test_garbage_is_refused(state: HubState, body: bytes) -> None:
    assert [status for status, _ in asked(state, ("POST /rollout", body))] == [400]
