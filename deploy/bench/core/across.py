"""`bench freshness --across processes|hosts`: the same source and consumer, in two processes or on two hosts.

Hosts are network namespaces made by `tests/netlab`, which is part of a source checkout and not of a package. The link
between them carries 100 Mbit/s with 10 ms of delay, less than the source makes: the link is a slow consumer, too.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from thalweg.deploy.bench.core.freshness import CONSUMER_S, FPS
from thalweg.deploy.bench.core.freshness_end import BLOCKED_CONSUMER_S, WARM_UP
from thalweg.deploy.bench.core.hop import HopError, write_certificates
from thalweg.deploy.bench.core.hop_end import SHARED_MEMORY
from thalweg.deploy.bench.peers import run_peer
from thalweg.deploy.bench.result import OURS, Result, quantile
from thalweg.pipeline.errors import ThalwegError

DELAY_MS = 10
RATE_BPS = 100e6
FRAME_BYTES = 480 * 640 * 3
Start = Callable[[list[str]], "subprocess.Popen[str]"]


class NoLab(ThalwegError):
    """Hosts of their own cannot be had here."""


def measure_processes(result: Result, quick: bool) -> None:
    """Fill in the case `processes`: shared memory, next to dora."""
    frames = FPS * (3 if quick else 30)
    result.rounds.expect(4)
    orders = {"transport": SHARED_MEMORY, "certificates": [], "address": ""}
    _latest(result, "processes", orders, frames, _here, _here)
    for system, queue in (("dora", "1"), ("dora-default", "default")):
        arguments = [str(frames), str(FPS), str(CONSUMER_S), queue]
        found = run_peer(
            "dora", "core/programs/dora_freshness.py", arguments, result, system=system, what=f"{frames} frames"
        )
        if found is not None:
            ages_ms = [age / 1e6 for age in found["ages_ns"]]
            _add(result, "processes", system, ages_ms, frames)
    _block(result, "processes", orders, 150 if quick else 400, _here, _here)


def measure_hosts(result: Result, quick: bool) -> None:
    """Fill in the case `hosts`: gRPC with mutual TLS between two namespaces. Raises NoLab."""
    netlab = open_netlab("--across hosts")
    link = netlab.Link(delay_ms=DELAY_MS, rate=RATE_BPS, queue_bytes=2_000_000)
    result.rounds.expect(2)
    result.notes.append(f"hosts: a link of {RATE_BPS / 1e6:.0f} Mbit/s and {DELAY_MS} ms each way, by tests/netlab")
    hop_ms = DELAY_MS + 8 * FRAME_BYTES / RATE_BPS * 1e3
    result.notes.append(f"one hop of a frame over this link takes {hop_ms:.0f} ms at least")
    with tempfile.TemporaryDirectory() as folder:
        certificates = [Path(name).read_text(encoding="utf-8") for name in write_certificates(Path(folder))]
        with netlab.lab("far", "near", link=link) as net:
            orders = {"transport": "thalweg-tls", "certificates": certificates, "address": net.near.address}
            _latest(result, "hosts", orders, FPS * (4 if quick else 30), _on(net.near), _on(net.far))
        with netlab.lab("far", "near", link=netlab.Link(delay_ms=DELAY_MS)) as net:
            orders |= {"address": net.near.address}
            _block(result, "hosts", orders, 150 if quick else 400, _on(net.near), _on(net.far))


def _latest(result: Result, case: str, orders: dict[str, Any], frames: int, sink: Start, source: Start) -> None:
    ends = partial(run_ends, orders | {"kind": "latest", "frames": frames}, sink, source)
    taken, _ = result.rounds.ours(f"{case}, the newest of {frames} frames", ends)
    ages_ms = taken["ages_ms"]
    _add(result, case, OURS, ages_ms, frames)
    half = len(ages_ms) // 2
    growth = quantile(ages_ms[half:], 0.5) - quantile(ages_ms[:half], 0.5)
    result.add(case, OURS, len(ages_ms), "ms", age_growth=growth)


def _block(result: Result, case: str, orders: dict[str, Any], frames: int, sink: Start, source: Start) -> None:
    ends = partial(run_ends, orders | {"kind": "block", "frames": frames}, sink, source)
    taken, sent = result.rounds.ours(f"{case}, all of {frames} frames", ends)
    if taken["taken"] != frames:
        result.notes.append(f"block across {case}: {frames} sent, {taken['taken']} taken")
    times = sent["sent_s"][int(WARM_UP * frames) :]
    rate = (len(times) - 1) / (times[-1] - times[0])
    result.add(case, OURS, frames, "frames/s", block_producer=rate, block_consumer_at_most=1 / BLOCKED_CONSUMER_S)
    grown_mb = {"block_producer_growth": sent["grown_mb"], "block_consumer_growth": taken["grown_mb"]}
    result.add(case, OURS, frames, "MB", **grown_mb)


def run_ends(orders: dict[str, Any], sink: Start, source: Start) -> tuple[dict[str, Any], dict[str, Any]]:
    """Start a consumer and a producer, wait for both; what each of them found. Raises HopError."""
    command = [sys.executable, "-m", "thalweg.deploy.bench.core.freshness_end"]
    ends = []
    try:
        consumer = sink(command)
        ends.append(consumer)
        _order(consumer, orders | {"end": "sink"})
        assert consumer.stdout is not None
        producer = source(command)
        ends.append(producer)
        _order(producer, orders | {"end": "source", "address": consumer.stdout.readline().strip()})
        said = [end.communicate()[0] for end in ends]
    finally:
        for end in ends:
            end.kill()
            end.wait()
    if any(end.returncode for end in ends):
        raise HopError(f"bench freshness: an end of {orders['transport']} broke down")
    return json.loads(said[0]), json.loads(said[1])


def _order(process: subprocess.Popen[str], orders: dict[str, Any]) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(orders) + "\n")
    process.stdin.flush()


def _options() -> dict[str, Any]:
    path = os.pathsep.join(path for path in sys.path if path)
    environment = os.environ | {"PYTHONPATH": path}
    return {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}


def _here(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, **_options())


def _on(host: Any) -> Start:  # Any: a host of tests.netlab
    return lambda command: host.popen(command, **_options())


def open_netlab(what: str) -> Any:
    """The link emulator of the tests. Raises NoLab, naming what needs it, where it cannot run."""
    root = Path(__file__).resolve().parents[3]
    if not (root / "tests" / "netlab").is_dir():
        raise NoLab(f"{what} needs tests/netlab, which is in a source checkout: run it from one")
    sys.path.append(str(root))
    netlab = importlib.import_module("tests.netlab")
    reason = netlab.why_not()
    if reason is not None:
        raise NoLab(f"{what}: {reason}")
    return netlab


def _add(result: Result, case: str, system: str, ages_ms: list[float], frames: int) -> None:
    p50, p99 = quantile(ages_ms, 0.5), quantile(ages_ms, 0.99)
    result.add(case, system, len(ages_ms), "ms", age_p50=p50, age_p99=p99, age_max=max(ages_ms))
    result.add(case, system, len(ages_ms), "frames", dropped=frames - len(ages_ms))
