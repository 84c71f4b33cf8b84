"""When the actor that runs share ends, and what it forgets: no cluster, and a clock of the test."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from thalweg.deploy.cluster import ray_host, shared_actor
from thalweg.deploy.cluster.host import Bundle
from thalweg.deploy.cluster.order import Order
from thalweg.deploy.cluster.remote import RemoteError, WorkerLost
from thalweg.deploy.cluster.shared_actor import SharedActor, SharedHostActor
from thalweg.deploy.errors import Problem
from thalweg.deploy.testing import run_virtual
from thalweg.pipeline.file.plan import WorkerPlan

EMPTY_S = SILENT_S = 60.0


class Life:
    """An actor, from when it was made until it ends."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ended = False
        ray = SimpleNamespace(
            kill=lambda actor: setattr(self, "ended", True),
            get_runtime_context=lambda: SimpleNamespace(current_actor=None),
        )
        monkeypatch.setitem(sys.modules, "ray", ray)
        self.actor = SharedHostActor("pool", EMPTY_S, SILENT_S)


def live(monkeypatch: pytest.MonkeyPatch, case: Callable[[Life], Awaitable[None]]) -> None:
    async def main() -> None:
        life = Life(monkeypatch)
        await case(life)
        life.actor._looking.cancel()

    run_virtual(main())


def test_an_actor_that_was_never_called_since_who_made_it_is_gone_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    async def case(life: Life) -> None:
        await asyncio.sleep(EMPTY_S - 1)
        assert not life.ended
        await asyncio.sleep(2)
        assert life.ended

    live(monkeypatch, case)


def test_who_found_it_in_its_last_second_has_time_to_make_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    async def case(life: Life) -> None:
        await life.actor.call("me", "ping")
        await asyncio.sleep(EMPTY_S - 0.5)
        await life.actor.call("me", "ping")
        await asyncio.sleep(EMPTY_S - 1)
        assert not life.ended
        await asyncio.sleep(2)
        assert life.ended

    live(monkeypatch, case)


def test_nothing_is_kept_of_a_run_that_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    async def case(life: Life) -> None:
        actor, forgotten = life.actor, []

        async def close(whose: str) -> None:
            forgotten.append(whose)
            actor._note(whose, Problem(stage="chat", message="it was given up", epoch=1, time_ns=0))

        monkeypatch.setattr(actor.hosts, "expired", lambda silent_s: [] if forgotten else ["me"])
        monkeypatch.setattr(actor.hosts, "close", close)
        await asyncio.sleep(3)
        assert (forgotten, actor._problems) == (["me"], {})

    live(monkeypatch, case)


def test_a_run_says_that_it_is_there_until_it_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    said = []

    async def here(*_: Any) -> Any:
        return SimpleNamespace(nodes=list)

    async def case() -> None:
        actor = SharedActor(order())
        await actor.join("me", lambda _: None)
        await asyncio.sleep(SILENT_S)
        assert len(said) >= 10 and set(said) == {("me", "ping")}
        await actor.part("me")
        said.clear()
        await asyncio.sleep(SILENT_S)
        assert said == []

    for module in (ray_host, shared_actor):
        monkeypatch.setattr(module, "aside", here)
    monkeypatch.setattr(ray_host, "unplaceable", lambda asked, nodes: "")
    monkeypatch.setattr(shared_actor, "ray_here", here)
    monkeypatch.setattr(shared_actor, "ask", here)
    monkeypatch.setattr(SharedActor, "post", lambda self, *told: said.append(told))
    run_virtual(case())


def order(*modules: str, folder: Path | None = None) -> Order:
    plan = WorkerPlan(name="pool", launcher="ray", stages=("stage",), shared=True)
    bundle = Bundle(main="a", files={"a": ""}, settings={}, token="", paths=() if folder is None else (str(folder),))
    return Order(worker=plan, bundle=bundle, on_problem=lambda _: None, modules=modules)


def test_runs_of_other_code_have_an_actor_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "staging").mkdir()
    for name, text in {
        "staging/__init__.py": "",
        "staging/words.py": "import staging.tables, json\nfrom . import forms",
        "staging/tables.py": "from staging.words import *",
        "staging/forms.py": "from .tables import x",
        "staging/other.py": "",
        "broken.py": "def",
    }.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    one = order("staging.words", folder=tmp_path)

    def changed(name: str) -> bool:
        before = SharedActor(one).name
        with (tmp_path / name).open("a", encoding="utf-8") as file:
            file.write("\nx = 1\n")
        return SharedActor(one).name != before

    assert SharedActor(one).name == SharedActor(order("staging.words", folder=tmp_path)).name
    assert [changed(f"staging/{name}.py") for name in ("__init__", "words", "tables", "forms", "other")] == [
        True
    ] * 4 + [False]
    assert SharedActor(order("broken", folder=tmp_path)).name != SharedActor(one).name
    ours = SharedActor(order("thalweg.stages.language.chat"))
    assert ours.name == SharedActor(order()).name, "Thalweg has a version"


def test_where_every_actor_dies_at_once_the_run_is_told_what_of(monkeypatch: pytest.MonkeyPatch) -> None:
    async def here(*_: Any) -> Any:
        return SimpleNamespace(nodes=list)

    async def dead(*_: Any) -> Any:
        raise WorkerLost("worker pool is gone: no module named thalweg on its node")

    for module in (ray_host, shared_actor):
        monkeypatch.setattr(module, "aside", here)
    monkeypatch.setattr(ray_host, "unplaceable", lambda asked, nodes: "")
    monkeypatch.setattr(shared_actor, "ray_here", here)
    monkeypatch.setattr(shared_actor, "ask", dead)
    actor = SharedActor(order())
    with pytest.raises(RemoteError, match="no module named thalweg on its node"):
        run_virtual(actor.join("me", lambda _: None))
