"""A server of several conversation hosts: `bench hosts`, with the stages of fixed cost of `scripted.py`.

`crowds`: as many offers as one, two and three hosts have places. Each is answered, but no client connects: the cost of
a conversation is not measured, so that two cores hold hundreds. Measured are the time from an offer to its answer, the
front's processor time for each, and how many each host holds in the end.

`loss`: people who write, and hear an answer, on two hosts; then `kill -9` of one. A client does as the page does: a
ping twice a second, and where nothing came for 1.6 s it asks the front, and connects anew. Measured from the kill to
the connection with the new host; every question that was answered has to be in what the new host remembers, once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from thalweg.deploy.bench import BenchError
from thalweg.deploy.bench.dialogue.attackers import an_offer
from thalweg.deploy.bench.dialogue.scripted import pipeline
from thalweg.deploy.bench.ports import free_port
from thalweg.deploy.bench.result import OURS, Result, quantile
from thalweg.deploy.server.snapshot import host_of
from thalweg.stages.io.private import create_private
from thalweg.transports.webrtc.client import Talker, TalkError

PARTS = ("crowds", "loss")
CROWDS = ((10, 1), (50, 2), (200, 3))
TALKERS = 8
QUESTIONS = 2
AT_ONCE = 4
READY_S, PART_S, ANSWER_S = 90.0, 300.0, 30.0
BEAT_S, SILENT_S = 0.5, 1.6
ADMIN = {"Authorization": "Bearer operator"}


@dataclass(slots=True)
class Crowd:
    """Offers: seconds to each answer, how many of them each host holds in the end, and how many were refused."""

    joins: list[float] = field(default_factory=list)
    held: list[int] = field(default_factory=list)
    refused: int = 0


@dataclass(slots=True)
class Loss:
    """Seconds from the kill to the new host, for each person; turns that were lost, and that came twice."""

    resumed: list[float] = field(default_factory=list)
    lost: int = 0
    doubled: int = 0
    given_up: int = 0


def measure(result: Result, quick: bool, part: str | None = None) -> None:
    """Both parts, or one of them."""
    if part is not None and part not in PARTS:
        raise BenchError(f"bench hosts has no part {part!r}; it has {', '.join(PARTS)}")
    if part != "loss":
        for n, hosts in CROWDS[:1] if quick else CROWDS:
            places = -(-n // hosts)
            with served(hosts, places) as (url, pid):
                before_s = processor_s(pid)
                crowd = result.rounds.ours(
                    f"{n} offers to {hosts} hosts of {places} places",
                    partial(_crowded, url, n),
                    PART_S,
                )
                spent_s = processor_s(pid) - before_s
            case = f"{n} on {hosts}"
            result.add(case, OURS, n, "conversations", held=sum(crowd.held), refused=crowd.refused)
            result.add(case, OURS, hosts, "conversations", least=min(crowd.held), most=max(crowd.held))
            p50, p95 = quantile(crowd.joins, 0.5), quantile(crowd.joins, 0.95)
            result.add(case, OURS, len(crowd.joins), "ms", join_p50=1e3 * p50, join_p95=1e3 * p95)
            result.add(case, OURS, 1, "ms", front_cpu_each=1e3 * spent_s / n)
    if part != "crowds":
        talkers = 4 if quick else TALKERS
        with served(2, talkers) as (url, _):
            loss = result.rounds.ours(
                f"{talkers} talk on two hosts, one of which is killed", partial(_bereaved, url, talkers), PART_S
            )
        case = f"kill -9, {talkers} talk"
        moved = len(loss.resumed)
        if moved:
            p50, p95 = quantile(loss.resumed, 0.5), quantile(loss.resumed, 0.95)
            result.add(case, OURS, moved, "ms", resumed_p50=1e3 * p50, resumed_p95=1e3 * p95)
        result.add(case, OURS, moved, "conversations", moved=moved, given_up=loss.given_up)
        result.add(case, OURS, talkers * QUESTIONS, "turns", lost=loss.lost, doubled=loss.doubled)


@contextmanager
def served(hosts: int, places: int) -> Iterator[tuple[str, int]]:
    """A front in a process of its own, once all its hosts are ready; gives its address and process."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "scripted.yaml")
        with create_private(file) as out:
            out.write(pipeline().encode())
        command = [sys.executable, "-m", "thalweg.deploy.bench.dialogue.served", str(file)]
        env = os.environ | {
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "XDG_STATE_HOME": folder,
        }
        with subprocess.Popen([*command, str(port), str(hosts), str(places)], env=env) as process:
            try:
                deadline = time.monotonic() + READY_S
                while sum(host["state"] == "up" and not host["why"] for host in _hosts(port)) < hosts:
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise TalkError("unreachable", "the server for the benchmark did not become ready")
                    time.sleep(0.2)
                yield f"http://127.0.0.1:{port}", process.pid
            finally:
                for _ in range(2):
                    process.send_signal(signal.SIGTERM)
                    time.sleep(0.3)
                process.wait(30.0)


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
    await asyncio.sleep(2 * BEAT_S)
    crowd.held = [sum(host["conversations"].values()) for host in _hosts(int(url.rpartition(":")[2]))]
    return crowd


def _bereaved(url: str, count: int) -> Loss:
    return asyncio.run(_bereave(url, count))


async def _bereave(url: str, count: int) -> Loss:
    loss = Loss()
    talkers = [Talker(url) for _ in range(count)]
    for talker in talkers:
        await talker.connect()
    for number in range(QUESTIONS):
        await asyncio.gather(*(_asked(talker, f"q{number}") for talker in talkers))
    await asyncio.sleep(2 * BEAT_S)
    hosts = {host["name"]: host["pid"] for host in _hosts(int(url.rpartition(":")[2]))}
    (home, _), *_ = Counter(host_of(talker.session) for talker in talkers).most_common()
    bereft = [talker for talker in talkers if host_of(talker.session) == home]
    async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as group:
        beats = [group.create_task(_follow(talker, http)) for talker in bereft]
        await asyncio.sleep(2 * BEAT_S)
        os.kill(hosts[home], signal.SIGKILL)
        killed_s = talkers[0].clock.now_ns() / 1e9
        for back in await asyncio.gather(*beats):
            if back is None:
                loss.given_up += 1
            else:
                loss.resumed.append(back - killed_s)
    for talker in talkers:
        with contextlib.suppress(TimeoutError, TalkError):
            heard = (await _asked(talker, "end")).split(" and ")
            for number in range(QUESTIONS):
                loss.lost += heard.count(f"q{number}") == 0
                loss.doubled += heard.count(f"q{number}") > 1
        await talker.end()
    return loss


async def _follow(talker: Talker, http: aiohttp.ClientSession) -> float | None:
    """Until the conversation is on another host, as the page does it: when it was; None where it did not come back."""
    home = host_of(talker.session)
    answered_s = time.monotonic()
    until_s = answered_s + ANSWER_S
    seen = len(talker.events)
    while time.monotonic() < until_s:
        talker.send({"type": "ping", "t": time.monotonic()})
        await asyncio.sleep(BEAT_S)
        if any(event["type"] == "pong" for _, event in talker.events[seen:]):
            answered_s, seen = time.monotonic(), len(talker.events)
        if time.monotonic() - answered_s < SILENT_S:
            continue
        url = f"{talker._url}/sessions/{talker.session}?key={talker.key}"
        async with http.get(url) as response:
            stands = (await response.json()).get("stands")
        if stands is not False:
            continue
        with contextlib.suppress(TalkError, TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                await talker.connect_anew()
        if host_of(talker.session) != home and not talker.lost:
            return talker.connected_ns / 1e9
    return None


async def _asked(talker: Talker, text: str) -> str:
    talker.send({"type": "say", "text": text})
    while True:
        heard = await talker.next("heard", timeout_s=ANSWER_S)
        if heard["complete"]:
            return str(heard["text"])
