"""A watched worker: no packet is processed before its own report was acknowledged."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from thalweg.deploy.runtime.watch import Watch
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Token


@dataclass
class Holder:
    """An actor, as a watch sees it."""

    name: str = "stage"
    held: Packet | None = None
    woken: int = 0
    worker: Any = field(init=False)

    def __post_init__(self) -> None:
        self.worker = SimpleNamespace(wake=self._wake)

    def _wake(self, _: object) -> None:
        self.woken += 1


def numbered(number: int) -> Packet:
    return Packet(stream="s", seq=number, time=0, payload=Token(text=str(number)), replay=number)


def told(watch: Watch) -> list[int]:
    return [hand["number"] for hand in watch.tell()]


def test_a_packet_is_released_once_its_report_was_acknowledged() -> None:
    watch, actor = Watch(lambda: None), Holder()
    watch.hold(actor, numbered(1))
    assert watch.untold
    assert watch.release(actor) is None
    assert told(watch) == [1]
    assert not watch.untold
    watch.heard()
    assert actor.woken == 1
    assert watch.release(actor) == numbered(1)


def test_one_that_is_done_before_the_next_acknowledgement_stops_no_beat() -> None:
    watch, actor = Watch(lambda: None), Holder()
    watch.hold(actor, numbered(1))
    told(watch)
    watch.heard()
    told(watch)  # it is acknowledged, and the stage has not begun with it
    assert watch.release(actor) == numbered(1)
    watch.done(actor)
    watch.heard()


def test_the_acknowledgement_of_one_packet_releases_no_other() -> None:
    watch, actor = Watch(lambda: None), Holder()
    watch.hold(actor, numbered(1))
    told(watch)
    watch.heard()
    told(watch)
    assert watch.release(actor) == numbered(1)
    watch.done(actor)
    watch.hold(actor, numbered(2))
    watch.heard()
    assert watch.release(actor) is None
    assert watch.untold
