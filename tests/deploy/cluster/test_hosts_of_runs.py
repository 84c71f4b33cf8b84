"""Whose host is forgotten in a worker that runs share, and when: hosts that do nothing, and a clock of the test."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from thalweg.deploy.cluster import hosts as module
from thalweg.deploy.cluster.hosts import STARTING_S, Hosts
from thalweg.deploy.cluster.remote import WorkerLost
from thalweg.deploy.testing import run_virtual

SILENT_S = 60.0
BUNDLE = {"main": "a", "files": {"a": ""}, "settings": {}, "token": ""}


class Idle:
    """A host whose calls take as long as they are told."""

    def __init__(self, *_: object, **__: object) -> None:
        self.worker = SimpleNamespace(started_ns=0)

    async def run_stages(self) -> None:
        self.worker.started_ns = 1

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
        await hosts.call("me", "run_stages", [])
        await asyncio.sleep(SILENT_S)
        assert hosts.expired(SILENT_S) == []
        await asyncio.sleep(1)
        assert hosts.expired(SILENT_S) == ["me"]

    hold(monkeypatch, case)


def test_a_run_that_waits_for_models_elsewhere_is_given_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def case(hosts: Hosts) -> None:
        await asyncio.sleep(STARTING_S)
        assert hosts.expired(SILENT_S) == []
        await asyncio.sleep(1)
        assert hosts.expired(SILENT_S) == ["me"]

    hold(monkeypatch, case)


def test_a_run_whose_call_takes_long_is_not_forgotten_within_it_or_just_behind_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def case(hosts: Hosts) -> None:
        await hosts.call("me", "run_stages", [])
        asking = asyncio.ensure_future(hosts.call("me", "take", [10 * SILENT_S]))
        await asyncio.sleep(9 * SILENT_S)
        assert hosts.expired(SILENT_S) == []
        await asking
        assert hosts.expired(SILENT_S) == []

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
