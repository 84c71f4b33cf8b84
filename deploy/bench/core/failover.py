"""How long a pipeline stands still when a worker is killed and whether anything is lost, and how fast interrupts act.

Cases `subprocess` and `ray`: a number every 5 ms goes through two workers of their own that keep count, and comes
back. One of the two, in turn, is killed with SIGKILL, always when everything has run for a second. `resume`: from the
kill to the first number that comes back after the standstill. `lost`, `doubled`, `miscounted`: numbers.

Case `voice`: the spoken question of the examples; ears, brain and mouth are killed in the middle of a turn. `resume`
is from the kill to when the new worker runs, its models loaded. `turns_changed`: turns that came out otherwise than
without kills.

Case `interrupt`: tokens flow through five workers in a row, and the sink raises a new epoch again and again. `stale`:
from there to the last packet of an older epoch that came as far as the sink's channel, which drops it; `delivered`:
stale packets that the sink was given.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import secrets
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from thalweg.deploy.bench.result import OURS, Result, quantile
from thalweg.deploy.bench.rounds import LeftOut
from thalweg.deploy.cluster.deployment import Deployment
from thalweg.deploy.cluster.host import Bundle
from thalweg.deploy.ops.observing.outcome import Outcome
from thalweg.deploy.reading import bundle_of, read_spec
from thalweg.deploy.runtime.worker import Worker
from thalweg.pipeline.channel import Push
from thalweg.pipeline.file.spec import load_spec
from thalweg.pipeline.packet import AMBIENT, Packet

SETTLE_S = 1.0
STANDSTILL_S = 20.0
VOICE_S = 900.0
RELAYS = 5
_STAGES = "thalweg.deploy.bench.core.counting"
_CHAIN = f"""
stages:
  count: {{use: "{_STAGES}:Count", gap_ms: 5}}
  first: {{use: "{_STAGES}:Tally"}}
  second: {{use: "{_STAGES}:Tally"}}
  sink: {{use: "{_STAGES}:Check"}}
connections: [count -> first -> second -> sink]
workers:
  a: {{launcher: LAUNCHER, restart: on_failure, restarts: 1000, backoff: 1ms}}
  b: {{launcher: LAUNCHER, restart: on_failure, restarts: 1000, backoff: 1ms}}
placement: {{first: a, second: b}}
"""
_RELAYS = [f"r{i}" for i in range(RELAYS)]
_TALK = f"""
stages:
  talk: {{use: "{_STAGES}:Talk"}}
{"".join(f'  {name}: {{use: "{_STAGES}:Relay"}}' + chr(10) for name in _RELAYS)}
  sink: {{use: "{_STAGES}:Interrupter"}}
connections: [talk -> {" -> ".join(_RELAYS)} -> sink]
placement: {{{", ".join(f"{name}: subprocess" for name in _RELAYS)}}}
"""


def measure(result: Result, quick: bool) -> None:
    """Fill in the rows."""
    rounds, kills, times = result.rounds, 2 if quick else 12, 10 if quick else 200
    rounds.expect(2 if quick else 4)
    rounds.ours(f"kill -9 of subprocesses, {kills} times", lambda: asyncio.run(_chain(result, "subprocess", kills)))
    rounds.ours(f"{times} interrupts", lambda: asyncio.run(_interrupt(result, times)))
    if quick:
        result.notes.append("quick: the cases ray and voice are left out")
        return
    rounds.peer("ray", f"kill -9 of actors, {kills} times", lambda: _ray(result, kills))
    rounds.ours("kill -9 in a voice demo", lambda: asyncio.run(_voice(result, 4)), VOICE_S)


def deploy(text: str) -> Deployment:
    """A deployment of a pipeline that is given as a text."""
    bundle = Bundle(main="bench.yaml", files={"bench.yaml": text}, settings={}, token=secrets.token_hex(16))
    return Deployment(load_spec(text, "bench.yaml"), bundle, lambda _: None)


def local_stage(deployment: Deployment, name: str) -> Any:  # Any: the benchmark knows its stages
    """A stage that runs in this process."""
    worker: Worker = deployment.hosts["local"].worker  # type: ignore[union-attr]
    return worker.actors[name].stage


async def _chain(result: Result, launcher: str, kills: int) -> None:
    deployment = deploy(_CHAIN.replace("LAUNCHER", launcher))
    sink = local_stage(deployment, "sink")
    resumed_ms = []
    async with asyncio.TaskGroup() as group:
        group.create_task(deployment.run())
        await deployment.ready.wait()
        for i in range(kills):
            name = "ab"[i % 2]
            await asyncio.sleep(SETTLE_S)
            stats = (await deployment.stats())[name]
            assert stats is not None
            killed_ns, before = time.monotonic_ns(), deployment.supervisors[name].restarts
            os.kill(stats["pid"], signal.SIGKILL)
            await deployment.returned(name, before + 1)
            await asyncio.sleep(SETTLE_S)
            resumed_ms.append((_end_of_standstill(sink.arrived_ns, killed_ns) - killed_ns) / 1e6)
        deployment.stop()
    _add_resume(result, launcher, resumed_ms)
    faults = {"lost": sink.lost, "doubled": sink.doubled, "miscounted": sink.miscounted}
    result.add(launcher, OURS, len(sink.arrived_ns), "packets", **faults)


def _end_of_standstill(arrived_ns: list[int], killed_ns: int) -> int:
    """When the first packet came after the longest pause since the kill."""
    after = [killed_ns, *(at for at in arrived_ns if at > killed_ns)]
    longest = max(range(1, len(after)), key=lambda i: after[i] - after[i - 1])
    return after[longest]


async def _voice(result: Result, rounds: int) -> None:
    if importlib.util.find_spec("pocketsphinx") is None:
        result.notes.append("the voice demo is not installed, and its case left out: pip install 'thalweg[demo]'")
        return
    resumed_ms: list[float] = []
    changed = turns = 0
    with as_file(files("thalweg.deploy").joinpath("examples")) as folder, tempfile.TemporaryDirectory() as out:
        settings = {"input": str(folder / "question.flac"), "output": str(Path(out) / "a.wav")}
        settings |= {
            "end_of_turn": "silence",
            "silence": "300ms",
            "recogniser": "pocketsphinx",
            "model": "smollm2-135m-instruct",
        }
        # of PocketSphinx a killed worker hears the same again, whenever it comes back
        example = (folder / "voice_turn_processes.yaml").read_text(encoding="utf-8")
        patient = Path(out) / "voice.yaml"  # a machine that is busy with other things must not fail a turn
        patient.write_text(
            example.replace("{use: language.chat,", "{use: language.chat, timeout: 60s,"), encoding="utf-8"
        )
        plain = await _voice_round(patient, settings, {}, resumed_ms)
        for _ in range(rounds):
            kills = {"ears": 1.0, "mouth": 0.5, "brain": 1.0}
            outcome = await _voice_round(patient, settings, kills, resumed_ms)
            for epoch, turn in plain.turns.items():
                other = outcome.turns.get(epoch)
                turns += 1
                changed += other is None or (turn.transcript, turn.reply) != (other.transcript, other.reply)
    _add_resume(result, "voice", resumed_ms)
    result.add("voice", OURS, turns, "turns", turns_changed=changed)


async def _voice_round(file: Path, settings: dict[str, str], kills: dict[str, float], into: list[float]) -> Outcome:
    bundle = bundle_of(file, settings, traced=False)
    deployment = Deployment(read_spec(file, settings), bundle, lambda _: None)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(deployment.run())
        await deployment.ready.wait()
        for name, after_s in kills.items():
            await asyncio.sleep(after_s)
            stats = (await deployment.stats())[name]
            assert stats is not None
            killed_ns = time.monotonic_ns()
            os.kill(stats["pid"], signal.SIGKILL)
            await deployment.returned(name, 1)
            into.append((time.monotonic_ns() - killed_ns) / 1e6)
    return running.result()


async def _interrupt(result: Result, times: int) -> None:
    deployment = deploy(_TALK)
    sink = local_stage(deployment, "sink")
    worker: Worker = deployment.hosts["local"].worker  # type: ignore[union-attr]
    channel = next(edge.channel for edge in worker.edges if edge.consumer.name == "sink")
    stale_ns = 0
    push = channel.push

    def watched(packet: Packet, now_ns: int) -> Push:
        nonlocal stale_ns
        if AMBIENT < packet.epoch < sink.epoch:
            stale_ns = time.monotonic_ns()
        return push(packet, now_ns)

    channel.push = watched  # type: ignore[method-assign]
    took_ms = []
    async with asyncio.TaskGroup() as group:
        group.create_task(deployment.run())
        await deployment.ready.wait()
        await asyncio.sleep(SETTLE_S)
        for _ in range(times):
            raised_ns = time.monotonic_ns()
            sink.interrupt()
            await asyncio.sleep(0.25)
            took_ms.append(max(0, stale_ns - raised_ns) / 1e6)
        deployment.stop()
    result.add(
        "interrupt", OURS, times, "ms", stale_p50=quantile(took_ms, 0.5), stale_p95=quantile(took_ms, 0.95),
        stale_max=max(took_ms),
    )  # fmt: skip
    result.add("interrupt", OURS, sink.heard, "packets", delivered=sink.stale)


def _add_resume(result: Result, case: str, took_ms: list[float]) -> None:
    shares = {"resume_p50": quantile(took_ms, 0.5), "resume_p95": quantile(took_ms, 0.95), "resume_max": max(took_ms)}
    result.add(case, OURS, len(took_ms), "ms", **shares)


def _ray(result: Result, kills: int) -> None:
    if importlib.util.find_spec("ray") is None:
        raise LeftOut("it is not installed (pip install 'thalweg[ray]')")
    with _ray_cluster():
        asyncio.run(_chain(result, "ray", kills))


@contextmanager
def _ray_cluster() -> Iterator[None]:
    """A cluster of two nodes of our own."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    before = os.environ.get("RAY_ADDRESS")
    os.environ["RAY_ADDRESS"] = cluster.address
    try:
        yield
    finally:
        ray.shutdown()
        cluster.shutdown()  # type: ignore[no-untyped-call]
        del os.environ["RAY_ADDRESS"]
        if before is not None:
            os.environ["RAY_ADDRESS"] = before
