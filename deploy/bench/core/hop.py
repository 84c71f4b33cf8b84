"""One-way latency between two processes: from just before a packet is sent to where it has been received.

Packets of six sizes, 10 ms apart, the payload made beforehand. The systems take turns, round by round. Ours go the
whole way: stage, channel, outlet, transport, inlet, channel, stage.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from thalweg.deploy.bench.core.hop_end import SHARED_MEMORY
from thalweg.deploy.bench.peers import run_peer
from thalweg.deploy.bench.result import Result, quantile
from thalweg.pipeline.errors import ThalwegError
from thalweg.transports.grpc.tls import make_certificates

SIZES = [8, 4_096, 40_000, 150_000, 921_600, 4_000_000]
GAP_S = 0.01
LIMIT_S = 120.0
"""Of a round, which takes 6 s where nothing else runs, and Ray some more to begin with."""
WARM_UP = 0.1
Hops = dict[int, list[int]]


class HopError(ThalwegError):
    """An end of the measurement that broke down, or a system that is not among those measured."""


def measure(result: Result, quick: bool, part: str | None = None, csv: bool = False) -> list[str]:
    """Fill in the rows `p50`, `p99` of each size and system; returns what `csv` prints.

    `part`: some of the systems, with commas between. Raises HopError on one that there is none of.
    """
    rounds, n = (1, 20) if quick else (3, 100)
    with tempfile.TemporaryDirectory() as folder:
        names = write_certificates(Path(folder))
        arguments = [json.dumps(SIZES), str(n), str(GAP_S)]
        ours = {
            SHARED_MEMORY: "",
            "thalweg-unix": f"unix:{folder}/hop",
            "thalweg-tcp": "127.0.0.1",
            "thalweg-tls": "127.0.0.1",
        }
        peers = {
            "zmq-ipc": ("zmq", "core/programs/zmq_hop.py", arguments),
            "grpcio-unix": ("grpc", "core/programs/grpc_hop.py", [*arguments, "unix"]),
            "grpcio": ("grpc", "core/programs/grpc_hop.py", [*arguments, "tcp"]),
            "grpcio-tls": ("grpc", "core/programs/grpc_hop.py", [*arguments, "tls", *names]),
            "dora": ("dora", "core/programs/dora_hop.py", arguments),
            "ray-actor": ("ray", "core/programs/ray_hop.py", [*arguments, "actor"]),
            "ray-compiled": ("ray", "core/programs/ray_hop.py", [*arguments, "compiled"]),
        }
        systems: dict[str, Callable[[str], Hops | None]] = {
            **{system: partial(_ours, result, system, address, names, n) for system, address in ours.items()},
            **{system: partial(_peer, result, system, *peer) for system, peer in peers.items()},
        }
        wanted = list(systems) if part is None else part.split(",")
        if unknown := sorted(set(wanted) - set(systems)):
            raise HopError(f"bench hop has no {', '.join(unknown)}; it has {', '.join(systems)}")
        found: dict[str, Hops] = defaultdict(lambda: defaultdict(list))
        result.rounds.expect(rounds * len(wanted))
        for i in range(rounds):
            for system in wanted:
                hops = systems[system](f"round {i + 1} of {rounds}")
                for size, passed_ns in (hops or {}).items():
                    found[system][size] += passed_ns[int(WARM_UP * n) :]
    for size in SIZES:
        for system, hops in found.items():
            micros = [ns / 1e3 for ns in hops[size]]
            if not micros:
                continue
            result.add(
                str(size),
                system,
                len(micros),
                "µs",
                p50=quantile(micros, 0.5),
                p99=quantile(micros, 0.99),
                mean=sum(micros) / len(micros),
            )
    return rows_like_dora(result) if csv else []


def rows_like_dora(result: Result) -> list[str]:
    """One line per size and system, `latency,bytes,system,n,mean,p50,p99` in ns: dora's columns, then ours."""
    values = {(row.case, row.system, row.metric): row for row in result.rows}
    rows = []
    for row in result.rows:
        if row.metric == "p50":
            nanos = [round(1000 * values[row.case, row.system, metric].value) for metric in ("mean", "p50", "p99")]
            rows.append(f"latency,{row.case},{row.system},{row.n},{','.join(map(str, nanos))}")
    return rows


def _peer(result: Result, system: str, name: str, script: str, arguments: list[str], what: str) -> Hops | None:
    found = run_peer(name, script, arguments, result, system=system, what=what, limit_s=LIMIT_S)
    return None if found is None else {int(size): hops for size, hops in found["hops_ns"].items()}


def _ours(result: Result, system: str, address: str, names: list[str], n: int, what: str) -> Hops:
    return result.rounds.ours(what, partial(_run, system, address, names, n), LIMIT_S, system=system)


def _run(transport: str, address: str, names: list[str], n: int) -> Hops:
    certificates = [Path(name).read_text(encoding="utf-8") for name in names] if transport.endswith("tls") else []
    orders = {"transport": transport, "certificates": certificates, "sizes": SIZES, "n": n, "gap_s": GAP_S}
    sink = _start(orders | {"end": "sink", "address": address})
    assert sink.stdout is not None
    try:
        where = sink.stdout.readline().strip()
        source = _start(orders | {"end": "source", "address": where})
        try:
            answer, _ = sink.communicate()
        finally:
            source.kill()
            source.communicate()
    finally:
        sink.kill()
        sink.wait()
    if sink.returncode:
        raise HopError(f"bench hop: the receiving end of {transport} ended with code {sink.returncode}")
    found: dict[str, Any] = json.loads(answer)
    return {int(size): hops for size, hops in found.items()}


def _start(orders: dict[str, Any]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "thalweg.deploy.bench.core.hop_end"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        encoding="utf-8",
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(orders) + "\n")
    process.stdin.flush()
    return process


def write_certificates(folder: Path) -> list[str]:
    """PEM files of an authority, a certificate and its key."""
    made = make_certificates()
    names = []
    for name, text in (("authority", made.authority), ("certificate", made.certificate), ("key", made.key)):
        path = folder / f"{name}.pem"
        path.write_bytes(text)
        names.append(str(path))
    return names
