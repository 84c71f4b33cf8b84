"""A pipeline gives up what its ladder says while its machine is too hot, and takes it up again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.stages.fleet.agents import agent_at
from thalweg.deploy.runtime.worker import Worker
from thalweg.deploy.testing import Feed
from thalweg.pipeline.clock import VirtualClock
from thalweg.pipeline.file.source import SpecError
from thalweg.pipeline.file.spec import load_spec
from thalweg.pipeline.fleet.agent_socket import NODE, STATE
from thalweg.pipeline.fleet.telemetry import Telemetry
from thalweg.pipeline.graph import Graph
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Token
from thalweg.pipeline.stage import Context
from thalweg.stages.fleet.limits import Limits, LimitsError
from thalweg.stages.fleet.machine import Machine
from thalweg.testing import packet, run_stage, run_virtual

S = 1_000_000_000
LADDER: Any = ({"eye.size": "l", "eye.rate": 10}, {"eye.rate": 5}, {"eye.size": "s"})
Packets = [packet(Token(text="x"), time=second * S) for second in range(300)]


class Eye:
    """What can be configured, and is asked what it was told, and when."""

    inputs = {"token": Token}
    outputs = {"token": Token}
    configurable = ("size", "rate")

    def __init__(self, size: str = "l", rate: int = 10) -> None:
        self.settings: dict[str, Any] = {"size": size, "rate": rate}
        self.seen: list[tuple[int, str, int]] = []

    def configure(self, settings: dict[str, Any]) -> None:
        """From now on."""
        self.settings |= settings

    def process(self, packet: Packet, ctx: Context) -> None:
        """Pass on."""
        now = (self.settings["size"], self.settings["rate"])
        if not self.seen or self.seen[-1][1:] != now:
            self.seen.append((ctx.now_ns() // S, *now))
        ctx.emit(packet.payload)


def run(limits: Limits, clock: VirtualClock) -> tuple[Eye, list[str]]:
    """Five minutes."""
    graph, eye = Graph(name="test"), Eye()
    graph.add("feed", type("Tokens", (Feed,), {"outputs": {"out": Token}})(Packets))
    graph.add("eye", eye)
    graph.add("limits", limits)
    graph.connect("feed.out", "eye.token")
    graph.connect("eye.token", "limits.any")
    worker = Worker(graph, clock=clock)
    run_virtual(worker.run(), clock)
    return eye, [problem.message for problem in worker.problems]


def test_stages_that_lead_here_are_configured_down_and_up_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clock = VirtualClock()
    monkeypatch.setattr(Machine, "heat_c", lambda machine: 85.0 if 30 * S <= clock.now_ns() < 45 * S else 60.0)
    limits = Limits(LADDER, machine=str(tmp_path))
    eye, problems = run(limits, clock)
    assert [setting[1:] for setting in eye.seen] == [("l", 10), ("l", 5), ("s", 5), ("l", 5), ("l", 10)]
    assert [setting[0] for setting in eye.seen] == pytest.approx([0, 30, 40, 107, 168], abs=3)
    assert (limits.counts, problems) == ({"given_up": 2, "taken_up": 2}, [])


FILE = """
name: p
stages:
  slots: {{use: video.slots}}
  aside: {{use: video.slots}}
  autopilot: {{use: mavlink.telemetry, link: "udp:127.0.0.1:1"}}
  film: {{use: video.file, path: film.mp4}}
  limits:
    use: fleet.limits
    ladder: {ladder}
connections: [film -> slots, film -> aside, slots -> limits, autopilot -> limits]
"""


@pytest.mark.parametrize(
    ("ladder", "wrong"),
    [
        ("[{slot.frames: 5}, {}]", r"limits configures slot: there is no such stage \(did you mean 'slots'"),
        ("[{slots.frame: 5}, {}]", "limits configures slots: frame cannot change while it runs.*'frames'"),
        ("[{slots.frames: 5}, {slots.frames: few}]", "limits configures slots: .*frames: Input should be a valid int"),
        ("[{aside.frames: 5}, {}]", "limits configures aside: it is not reached"),
        ("[{frames: 5}, {}]", "rung 0 sets 'frames', expected stage.parameter"),
        ("[{slots.frames: 5}, {aside.frames: 2}]", "rung 1 sets aside.frames.*nothing would set it back"),
    ],
)
def test_what_a_ladder_cannot_do_is_said_where_the_file_is_checked(ladder: str, wrong: str) -> None:
    with pytest.raises(SpecError, match=f"p.yaml:8:.*{wrong}"):
        load_spec(FILE.format(ladder=ladder), "p.yaml")


def test_a_ladder_of_what_leads_here_is_taken() -> None:
    load_spec(FILE.format(ladder="[{slots.frames: 5}, {slots.frames: 2}]"), "p.yaml")


def test_the_battery_of_the_vehicle_counts_and_the_agent_is_told_the_rung(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NODE, str(tmp_path / "agent"))
    limits = Limits(LADDER, battery=(0.3,), machine=str(tmp_path))
    low = Telemetry(latitude=0, longitude=1, altitude_m=0, battery=0.2)

    class Quiet:
        """A context in which nothing happens."""

        name = "limits"

        def __getattr__(self, name: str) -> Any:
            return lambda *_: 0

    async def case() -> Any:
        async with agent_at(tmp_path / "agent") as told:
            await limits.process(packet(low), Quiet())  # type: ignore[arg-type]
            limits.close()
            return await told.get()

    assert asyncio.run(case()) == (STATE, {"rung": 1})


@pytest.mark.parametrize(
    ("ladder", "wrong"),
    [(({"eye.size": "l"}, {"eye.rate": 5}), "nothing would set it back"), (({"size": 1}, {}), "stage.parameter")],
)
def test_a_ladder_that_cannot_be_gone_up_again_is_refused(ladder: Any, wrong: str) -> None:
    with pytest.raises(LimitsError, match=wrong):
        Limits(ladder)


def test_it_runs_where_nothing_can_be_read(tmp_path: Path) -> None:
    limits = Limits(LADDER, machine=str(tmp_path))
    assert run_stage(limits, {"any": Packets}).problems == []
    assert limits.counts == {"given_up": 0, "taken_up": 0}


def test_a_machine_is_as_its_hottest_zone_its_processors_and_its_weakest_battery(tmp_path: Path) -> None:
    for name, text in (
        ("sys/class/thermal/thermal_zone0/temp", "45000\n"),
        ("sys/class/thermal/thermal_zone1/temp", "71500\n"),
        ("sys/class/thermal/thermal_zone2/temp", "-273000\n"),
        ("sys/class/thermal/thermal_zone3/temp", "broken"),
        ("sys/class/power_supply/BAT0/capacity", "80\n"),
        ("sys/class/power_supply/BAT1/capacity", "35\n"),
        ("proc/stat", "cpu  100 0 100 700 100 0 0 0 50 0\ncpu0 1\n"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    machine = Machine(tmp_path)
    assert (machine.heat_c(), machine.battery(), machine.busy()) == (71.5, 0.35, None)
    (tmp_path / "proc/stat").write_text("cpu  160 0 115 720 105 0 0 0 80 0\n", encoding="utf-8")
    assert machine.busy() == pytest.approx(0.75)
    (tmp_path / "proc/stat").unlink()
    assert machine.busy() is None
