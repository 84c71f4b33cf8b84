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
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.deploy.bench import BenchError
from thalweg.deploy.bench.dialogue.sessions import resources
from thalweg.deploy.bench.dialogue.turn import QUESTIONS
from thalweg.deploy.bench.dialogue.webrtc import INTERRUPTION, Speaker, Turns, converse, server
from thalweg.deploy.bench.result import OURS, Result, quantile
from thalweg.transports.webrtc.client import TalkError

MINUTES = 60.0
EVERY_S = 60.0
SCRAPE_S = 5
_RATE = "1m"
_POINTS = 240
_START_S = 30.0
_QUICK_MINUTES = 3.0


def measure(result: Result, quick: bool, minutes: float | None = None, json_path: Path | None = None) -> None:
    """Fill in the rows, and draw the dashboard beside the JSON file. Raises BenchError without Prometheus."""
    if shutil.which("prometheus") is None:
        raise BenchError("bench hour needs Prometheus: apt-get install prometheus")
    seconds = 60 * (minutes or (_QUICK_MINUTES if quick else MINUTES))
    speaker = Speaker()
    spoken = [speaker.say(question) for question in QUESTIONS]
    with (
        _port() as port,
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
        panels = _panels(asked, began, time.time())
        alerts = _asked(f"{asked}/api/v1/query_range", _over("ALERTS", began, time.time()))
    _add(result, visited, panels, alerts)
    picture = (json_path or Path("bench-hour.json")).with_suffix(".png")
    _draw(panels, picture)
    result.notes.append(f"the dashboard is in {picture}")


class _Visited:
    """What visitors measured, and the server's memory, MB, minute by minute."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.visits = self.refused = 0
        self.memory: list[float] = []


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


def _add(result: Result, found: _Visited, panels: list[dict[str, Any]], alerts: list[Any]) -> None:
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
    empty = [panel["title"] for panel in panels if not panel["series"]]
    result.add("dashboard", OURS, len(panels), "panels", drawn=len(panels), empty=len(empty))
    if empty:
        result.notes.append(f"panels with nothing to show: {', '.join(empty)}")
    fired = sorted({one["metric"]["alertname"] for one in alerts if one["metric"].get("alertstate") == "firing"})
    result.add("alerts", OURS, len(fired), "alerts", fired=len(fired))
    if fired:
        result.notes.append(f"alerts that fired: {', '.join(fired)}")


def _panels(asked: str, began: float, ended: float) -> list[dict[str, Any]]:
    """Of each panel of the dashboard: its title, its unit, and its lines by name, (seconds, value) of each point."""
    text = files("thalweg.deploy").joinpath("dashboards/thalweg.json").read_text(encoding="utf-8")
    found = []
    for panel in json.loads(text)["panels"]:
        series = []
        for target in panel.get("targets", ()):
            for one in _asked(f"{asked}/api/v1/query_range", _over(_plain(target["expr"]), began, ended)):
                labels = ", ".join(v for k, v in one["metric"].items() if k not in ("__name__", "instance", "job"))
                values = [(float(at) - began, float(value)) for at, value in one["values"] if value != "NaN"]
                if values:
                    series.append((labels or target.get("legendFormat", ""), values))
        if "targets" in panel:
            unit = panel.get("fieldConfig", {}).get("defaults", {}).get("unit", "")
            found.append({"title": panel["title"], "unit": unit, "series": series})
    return found


def _plain(expression: str) -> str:
    """An expression of the dashboard with everything chosen."""
    for name, value in (("$__rate_interval", _RATE), ("$__range", "1h"), ("$instance", ".*"), ("$worker", ".*")):
        expression = expression.replace(name, value)
    return expression


def _over(expression: str, began: float, ended: float) -> dict[str, str]:
    step = max(SCRAPE_S, (ended - began) / _POINTS)
    return {"query": expression, "start": f"{began}", "end": f"{ended}", "step": f"{step:.0f}"}


def _asked(url: str, query: dict[str, str]) -> list[Any]:
    with urllib.request.urlopen(f"{url}?{urllib.parse.urlencode(query)}", timeout=30.0) as response:
        found: list[Any] = json.load(response)["data"]["result"]
    return found


def _draw(panels: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    columns = 3
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(5 * columns, 2.3 * rows), layout="constrained", squeeze=False)
    for axis, panel in zip(axes.flat, panels, strict=False):
        for name, values in panel["series"]:
            times, heights = np.array(values).T
            axis.plot(times / 60, heights, lw=1, label=name)
        axis.set_title(f"{panel['title']} ({panel['unit']})", fontsize=8)
        axis.tick_params(labelsize=6)
        axis.grid(alpha=0.3)
        if 0 < len(panel["series"]) <= 8 and any(name for name, _ in panel["series"]):
            axis.legend(fontsize=5, loc="upper left")
        if not panel["series"]:
            axis.text(0.5, 0.5, "nothing", ha="center", transform=axis.transAxes, fontsize=8)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    figure.supxlabel("minutes", fontsize=8)
    figure.savefig(path, dpi=90)
    plt.close(figure)


@contextmanager
def _port() -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    yield port


@contextmanager
def _prometheus(scraped: int) -> Iterator[str]:
    """Prometheus, scraping a port of this machine; its address."""
    with tempfile.TemporaryDirectory() as folder, _port() as port:
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
