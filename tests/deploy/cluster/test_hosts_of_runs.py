"""Whose host is forgotten in a worker that runs share, and when: hosts that do nothing, and a clock of the test."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from thalweg.deploy.cluster import hosts as module
from thalweg.deploy.cluster.hosts import Hosts
from thalweg.deploy.cluster.remote import WorkerLost
from thalweg.deploy.testing import run_virtual

SILENT_S = 60.0
BUNDLE = {"main": "a", "files": {"a": ""}, "settings": {}, "token": ""}


class Idle:
    """A host whose calls take as long as they are told."""

    def __init__(self, *_: object, **__: object) -> None:
        """It has no stages."""

    async def take(self, for_s: float) -> None:
        await asyncio.sleep(for_s)

    async def close(self) -> None:
        """There is nothing to close."""


def hold(monkeypatch: pytest.MonkeyPatch, case: Callable[[Hosts], Awaitable[None]]) -> None:
    monkeypatch.setattr(module, "Host", Idle)
    monkeypatch.setattr(module, "load_bundle", lambda bundle: None)

    async def main() -> None:
        hosts = Hosts(lambda whose, problem: None)
        await hosts.call("me", "make", ["pool", BUNDLE])
        await case(hosts)

    run_virtual(main())


def test_a_run_that_asks_nothing_any_more_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    async def case(hosts: Hosts) -> None:
        await asyncio.sleep(SILENT_S)
        assert hosts.expired(SILENT_S) == []
        await asyncio.sleep(1)
        assert hosts.expired(SILENT_S) == ["me"]

    hold(monkeypatch, case)


def test_a_run_whose_call_takes_long_is_forgotten_where_its_owner_is_gone_and_not_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def case(hosts: Hosts) -> None:
        opening = asyncio.ensure_future(hosts.call("me", "take", [1e9]))
        for _ in range(100):
            await asyncio.sleep(SILENT_S / 2)
            await hosts.call("me", "ping", [])
            assert hosts.expired(SILENT_S) == []
        await asyncio.sleep(SILENT_S + 1)
        assert hosts.expired(SILENT_S) == ["me"]
        opening.cancel()

    hold(monkeypatch, case)


def test_who_asks_whether_a_worker_is_there_has_no_host_by_that(monkeypatch: pytest.MonkeyPatch) -> None:
    async def case(hosts: Hosts) -> None:
        await hosts.call("other", "ping", [])
        assert hosts.names == ["me"]
        await hosts.close("me")
        assert hosts.expired(0.0) == []

    hold(monkeypatch, case)


def test_what_is_asked_of_a_host_that_was_forgotten_finds_none(monkeypatch: pytest.MonkeyPatch) -> None:
    async def case(hosts: Hosts) -> None:
        await hosts.close("me")
        assert hosts.names == []
        with pytest.raises(WorkerLost):
            await hosts.call("me", "take", [0.0])

    hold(monkeypatch, case)


def test_a_file_is_read_once_for_the_runs_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []

    async def case(hosts: Hosts) -> None:
        monkeypatch.setattr(module, "load_bundle", read.append)
        await hosts.call("other", "make", ["pool", BUNDLE | {"token": "of its own"}])
        assert read == []
        await hosts.call("third", "make", ["pool", BUNDLE | {"settings": {"x": 1}}])
        assert len(read) == 1

    hold(monkeypatch, case)


def test_a_full_worker_takes_no_run_more_until_one_has_left_but_those_that_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def case(hosts: Hosts) -> None:
        assert not await hosts.call("other", "make", ["pool", BUNDLE, 2])
        assert await hosts.call("third", "make", ["pool", BUNDLE, 2])
        assert hosts.names == ["me", "other"]
        assert not await hosts.call("moved", "make", ["pool", BUNDLE, 0])
        await hosts.call("me", "leave", [])
        await hosts.call("moved", "leave", [])
        assert not await hosts.call("third", "make", ["pool", BUNDLE, 2])

    hold(monkeypatch, case)
