"""An hour of `thalweg serve` under people who come, talk and go, as its operator sees it: `bench hour`.

A server with the voice example and its default models in a process of its own; Prometheus (Debian's package) scrapes it
every 5 s with `deploy/dashboards/alerts.yaml`. A visitor comes every `EVERY_S`, asks two questions in synthetic speech,
interrupts each answer by voice and the answer to that with the button, and leaves; every tenth comes while another one
talks. In the end each panel of the Grafana dashboard is asked of Prometheus for the whole time and drawn by matplotlib:
its own expressions, not Grafana's looks. `empty`: panels that have nothing to show.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.deploy.bench import BenchError
from thalweg.deploy.bench.dialogue.dashboard import Panel, draw, panels_of, query
from thalweg.deploy.bench.dialogue.sessions import resources
from thalweg.deploy.bench.dialogue.turn import QUESTIONS
from thalweg.deploy.bench.dialogue.webrtc import INTERRUPTION, Speaker, Turns, converse, server
from thalweg.deploy.bench.ports import free_port
from thalweg.deploy.bench.result import OURS, Result, quantile
from thalweg.transports.webrtc.client import TalkError

MINUTES = 60.0
EVERY_S = 60.0
SCRAPE_S = 5
_START_S = 30.0
_QUICK_MINUTES = 3.0


def measure(result: Result, quick: bool, minutes: float | None = None, json_path: Path | None = None) -> None:
    """Fill in the rows, and draw the dashboard beside the JSON file. Raises BenchError without Prometheus."""
    if shutil.which("prometheus") is None:
        raise BenchError("bench hour needs Prometheus: apt-get install prometheus")
    seconds = 60 * (minutes or (_QUICK_MINUTES if quick else MINUTES))
    speaker = Speaker()
    spoken = [speaker.say(question) for question in QUESTIONS]
    port = free_port()
    with (
        server("--metrics", str(port), "--per-address", "1000") as (url, pid),
        _prometheus(port) as asked,
    ):
        began = time.time()
        result.rounds.expect(1)
        visited = result.rounds.ours(
            f"{seconds / 60:.0f} minutes of visits",
            lambda: asyncio.run(_visits(url, seconds, spoken, speaker.say(INTERRUPTION), pid)),
            seconds + 300,
        )
        panels = panels_of(asked, began, time.time())
        alerts = query(asked, "ALERTS", began, time.time())
    _add(result, visited, panels, alerts)
    picture = (json_path or Path("bench-hour.json")).with_suffix(".png")
    draw(panels, picture)
    result.notes.append(f"the dashboard is in {picture}")


@dataclass(slots=True)
class _Visited:
    """What visitors measured, and the server's memory, MB, minute by minute."""

    turns: Turns = field(default_factory=Turns)
    visits: int = 0
    refused: int = 0
    memory: list[float] = field(default_factory=list)


async def _visits(
    url: str, seconds: float, spoken: list[NDArray[np.float32]], interruption: NDArray[np.float32], pid: int
) -> _Visited:
    found, ends = _Visited(), time.monotonic() + seconds

    async def visit(number: int) -> None:
        found.visits += 1
        first = spoken[number % len(spoken)]
        second = spoken[(number + 7) % len(spoken)]
        try:
            turns = await converse(url, [first, second], interruption)
        except TalkError as error:
            if error.code != "busy":
                raise
            found.refused += 1
        else:
            found.turns.first_audio += turns.first_audio
            found.turns.interrupt += turns.interrupt
            found.turns.missed += turns.missed

    async with asyncio.TaskGroup() as group:
        number = 0
        while time.monotonic() < ends - EVERY_S / 2:
            group.create_task(visit(number))
            if number % 10 == 9:
                group.create_task(visit(number + 3))
            number += 1
            found.memory.append(resources(pid)["rss_mb"])
            await asyncio.sleep(max(0.0, min(EVERY_S, ends - time.monotonic())))
    return found


def _add(result: Result, found: _Visited, panels: list[Panel], alerts: list[Any]) -> None:
    turns, count = found.turns, len(found.turns.first_audio)
    result.add("visits", OURS, found.visits, "visits", came=found.visits, refused=found.refused)
    result.add("visits", OURS, count, "turns", answered=count, missed=turns.missed)
    for name in ("first_audio", "interrupt"):
        values = getattr(turns, name)
        if values:
            result.add(
                "visits",
                OURS,
                len(values),
                "ms",
                **{f"{name}_p50": quantile(values, 0.5), f"{name}_p95": quantile(values, 0.95)},
            )
    fifth = max(1, len(found.memory) // 5)
    early, late = (float(np.median(part)) for part in (found.memory[fifth : 2 * fifth], found.memory[-fifth:]))
    result.add("server", OURS, len(found.memory), "MB", memory=late, growth=late - early)
    empty = [panel.title for panel in panels if not panel.lines]
    result.add("dashboard", OURS, len(panels), "panels", drawn=len(panels), empty=len(empty))
    if empty:
        result.notes.append(f"panels with nothing to show: {', '.join(empty)}")
    fired = sorted({one["metric"]["alertname"] for one in alerts if one["metric"].get("alertstate") == "firing"})
    result.add("alerts", OURS, len(fired), "alerts", fired=len(fired))
    if fired:
        result.notes.append(f"alerts that fired: {', '.join(fired)}")


@contextmanager
def _prometheus(scraped: int) -> Iterator[str]:
    """Prometheus, scraping a port of this machine; its address."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        rules = files("thalweg.deploy").joinpath("dashboards/alerts.yaml").read_text(encoding="utf-8")
        Path(folder, "alerts.yaml").write_text(rules, encoding="utf-8")
        Path(folder, "prometheus.yml").write_text(
            f"global: {{scrape_interval: {SCRAPE_S}s, evaluation_interval: 15s}}\n"
            "rule_files: [alerts.yaml]\n"
            f"scrape_configs: [{{job_name: talk, static_configs: [{{targets: ['127.0.0.1:{scraped}']}}]}}]\n",
            encoding="utf-8",
        )
        options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        command = ["prometheus", *options, f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
        process = subprocess.Popen(command, env=os.environ, stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + _START_S
            while not _is_ready(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise BenchError("Prometheus did not start")
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10.0)
            process.kill()
            process.wait()


def _is_ready(port: int) -> bool:
    with (
        contextlib.suppress(OSError),
        urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=2.0) as answer,
    ):
        return bool(answer.status == 200)
    return False
