"""A server of several conversation hosts: `bench hosts`, with the stages of fixed cost of `scripted.py`.

`crowds`: as many offers as one, two and three hosts have places. Each is answered, but no client connects: the cost of
a conversation is not measured, so that two cores hold hundreds. Measured are the time from an offer to its answer, the
front's processor time for each, and how many each host holds in the end.

`loss`: people who write, and hear an answer, on two hosts; then `kill -9` of one. Measured from the kill to the
connection with the other host, and what the conversation remembers then (see `talkers.py`).

`drain`: each of two hosts is emptied in turn, while people talk, and another one takes its place.

`upgrade`: the front is ended, which leaves its hosts, and one with another pipeline file is started: it starts new
hosts, and the old ones are emptied. For both: the longest time without a packet of sound, and who was dropped.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import aiohttp

from thalweg.deploy.bench import BenchError
from thalweg.deploy.bench.dialogue.attackers import an_offer
from thalweg.deploy.bench.dialogue.scripted import pipeline
from thalweg.deploy.bench.dialogue.talkers import Meanwhile, drained, emptying, gathered, killing, replacing
from thalweg.deploy.bench.ports import free_port
from thalweg.deploy.bench.result import OURS, Result, quantile
from thalweg.stages.io.private import create_private
from thalweg.transports.webrtc.signalling import Signalling, TalkError

CROWDS = ((10, 1), (50, 2), (200, 3))
TALKERS, FEW_TALKERS = 20, 5
AT_ONCE = 4
READY_S, PART_S, MOVED_S, LEAVE_S = 90.0, 600.0, 60.0, 30.0
NEWS_S = 1.0
ADMIN_TOKEN = "operator"
ADMIN = {"Authorization": f"Bearer {ADMIN_TOKEN}"}


@dataclass(slots=True)
class Crowd:
    """Offers: seconds to each answer, how many of them each host holds in the end, and how many were refused."""

    joins: list[float] = field(default_factory=list)
    held: list[int] = field(default_factory=list)
    refused: int = 0


def measure(result: Result, quick: bool, part: str | None = None) -> None:
    """All parts, or one of them."""
    if part is not None and part not in PARTS:
        raise BenchError(f"bench hosts has no part {part!r}; it has {', '.join(PARTS)}")
    if part in (None, "crowds"):
        for n, hosts in CROWDS[:1] if quick else CROWDS:
            places = -(-n // hosts)
            with Served(hosts, places) as there:
                before_s = processor_s(there.process.pid)
                crowd = result.rounds.ours(
                    f"{n} offers to {hosts} hosts of {places} places",
                    partial(_crowded, there.url, n),
                    PART_S,
                )
                spent_s = processor_s(there.process.pid) - before_s
            case = f"{n} on {hosts}"
            result.add(case, OURS, n, "conversations", held=sum(crowd.held), refused=crowd.refused)
            result.add(case, OURS, hosts, "conversations", least=min(crowd.held), most=max(crowd.held))
            p50, p95 = quantile(crowd.joins, 0.5), quantile(crowd.joins, 0.95)
            result.add(case, OURS, len(crowd.joins), "ms", join_p50=1e3 * p50, join_p95=1e3 * p95)
            result.add(case, OURS, 1, "ms", front_cpu_each=1e3 * spent_s / n)
    talkers = FEW_TALKERS if quick else TALKERS
    for name, (what, meanwhile) in TALKED.items():
        if part in (None, name):
            with Served(2, talkers) as there:
                found = result.rounds.ours(
                    f"{talkers} talk on two hosts; {what}",
                    partial(gathered, there.url, talkers, meanwhile(there)),
                    PART_S,
                )
            found.tell(result, f"{name}, {talkers} talk")


class Served:
    """A front in a process of its own, as a context: entered once all its hosts are ready."""

    def __init__(self, hosts: int, places: int) -> None:
        self._hosts = hosts
        self._places = places
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._folder = tempfile.TemporaryDirectory()
        self.process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        try:
            self.process = self._start(pipeline())
            self._wait()
        except BaseException:
            self._folder.cleanup()
            raise
        return self

    def __exit__(self, *of: object) -> None:
        self._end()
        self._folder.cleanup()

    def hosts(self) -> list[dict[str, Any]]:
        """What the front tells of them; nothing where it does not answer."""
        return _hosts(self._port)

    def pids(self) -> dict[str, int]:
        """Of the hosts, by name."""
        return {host["name"]: host["pid"] for host in self.hosts()}

    def ready(self) -> bool:
        """Whether there are as many hosts as there are to be, which let people in."""
        return len([host for host in self.hosts() if host["state"] == "up" and not host["why"]]) >= self._hosts

    def replace(self) -> None:
        """End the front without its hosts, and start one with another file."""
        self.process.send_signal(signal.SIGHUP)
        self.process.wait(LEAVE_S)
        self.process = self._start(pipeline(length="90ms"))

    def _start(self, text: str) -> subprocess.Popen[bytes]:
        file = Path(self._folder.name, "scripted.yaml")
        file.unlink(missing_ok=True)
        with create_private(file) as out:
            out.write(text.encode())
        command = [sys.executable, "-m", "thalweg.deploy.bench.dialogue.served", str(file)]
        env = os.environ | {
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "XDG_STATE_HOME": self._folder.name,
        }
        return subprocess.Popen([*command, str(self._port), str(self._hosts), str(self._places)], env=env)

    def _wait(self) -> None:
        deadline_s = time.monotonic() + READY_S
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() > deadline_s:
                self._end()
                raise TalkError("unreachable", "the server for the benchmark did not become ready")
            time.sleep(0.2)

    def _end(self) -> None:
        for _ in range(2):
            self.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
        self.process.wait(LEAVE_S)


def processor_s(pid: int) -> float:
    """Processor seconds of one process, without those that it has started."""
    after_name = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def _hosts(port: int) -> list[dict[str, Any]]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/hosts", headers=ADMIN)
    try:
        with urllib.request.urlopen(request, timeout=5.0) as response:
            return list(json.load(response)["hosts"])
    except (urllib.error.URLError, OSError):
        return []


def _crowded(url: str, count: int) -> Crowd:
    return asyncio.run(_crowd(url, count))


async def _crowd(url: str, count: int) -> Crowd:
    crowd = Crowd()
    sdp = await an_offer()
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(http: aiohttp.ClientSession) -> None:
        async with slots:
            began_s = time.monotonic()
            async with http.post(f"{url}/offer", json={"sdp": sdp}) as response:
                await response.read()
            took_s = time.monotonic() - began_s
        if response.status == 200:
            crowd.joins.append(took_s)
        else:
            crowd.refused += 1

    async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(one(http))
    await asyncio.sleep(NEWS_S)
    crowd.held = [sum(host["conversations"].values()) for host in _hosts(int(url.rpartition(":")[2]))]
    return crowd


def _killing(there: Served) -> Meanwhile:
    return killing(there.pids, MOVED_S)


def _emptying(there: Served) -> Meanwhile:
    return emptying(partial(drained, Signalling(there.url, ADMIN_TOKEN)), there.ready, MOVED_S)


def _replacing(there: Served) -> Meanwhile:
    return replacing(partial(asyncio.to_thread, there.replace), MOVED_S)


TALKED = {
    "loss": ("kill -9 of one", _killing),
    "drain": ("each is emptied in turn", _emptying),
    "upgrade": ("both are replaced", _replacing),
}
PARTS = ("crowds", *TALKED)
