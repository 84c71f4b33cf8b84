"""Frames that miss their deadline, in three network namespaces: `python -m tests.netlab.misses [ROUNDS]`, as root.

A frame of 30 kB every 100 ms, due 250 ms after; 15 ms of processor time each. The edge may use a quarter of a core,
fog 0.35 of one, the cloud half of one. `thalweg` follows the link and the load, with workers that fog and cloud lend;
`edge` runs the same pipeline without lenders; `fog` and `cloud` are asked for every frame, over one TCP connection.
All four at the same time, each in a lab of its own with the same seed and processors of its own; a round lasts 36 s,
in which what a cell does to the links and the edge's processor happens at the same moments for all. `oracle`: of each
frame the best that the three that stay made of it. Prints a row per cell: the share that was missed, the median of
the rounds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean, median
from typing import Any, Final

from tests.netlab import Lab, Link, lab
from tests.netlab.missing import DUE_S, GAP_S
from tests.netlab.processors import processor
from thalweg.deploy.bench.fleet.cloud import LENT, Cloud

SECONDS, SETTLE_S, WORK_MS = 36.0, 14.0, 15.0
SHARES: Final = {"edge": 0.25, "fog": 0.35, "cloud": 0.5}
NEAR, FAR = Link(delay_ms=8, jitter_ms=1, rate=30e6), Link(delay_ms=25, jitter_ms=2, rate=30e6)
STAYING: Final = ("edge", "fog", "cloud")
SYSTEMS: Final = ("thalweg", *STAYING)
OUTAGES = ((6.0, 5.0), (18.0, 5.0), (30.0, 5.0))
Frames = list[bool]


@dataclass(frozen=True, slots=True)
class Cell:
    """What the links are while it is counted, and from when to when another process wants the edge's processor."""

    near: Link = NEAR
    far: Link = FAR
    stress_s: tuple[float, float] = field(default=(0.0, 0.0))


CELLS: Final = {
    "calm": Cell(),
    "far: 150 ms to the cloud, 60 to fog": Cell(replace(NEAR, delay_ms=60), replace(FAR, delay_ms=150)),
    "loss of 2 %": Cell(replace(NEAR, loss=0.02), replace(FAR, loss=0.02)),
    "outages: neither fog nor cloud for 5 s of 12": Cell(replace(NEAR, outages=OUTAGES), replace(FAR, outages=OUTAGES)),
    "stress: the edge's processor shared for 16 s": Cell(stress_s=(8.0, 24.0)),
    "stress, and outages of the cloud": Cell(NEAR, replace(FAR, outages=OUTAGES), (8.0, 24.0)),
    "narrow: 2 Mbit/s to both for 10 s of 20": Cell(
        replace(NEAR, rate=None, trace=((10, 30e6), (10, 2e6))), replace(FAR, rate=None, trace=((10, 30e6), (10, 2e6)))
    ),
}


def pieces_for(ms: float) -> int:
    """How much work takes so long on a whole core of this machine; the quickest of several tries."""
    sys.path.insert(0, str(LENT))
    from hashing import work  # type: ignore[import-not-found]

    def took_s() -> float:
        began_s = time.process_time()
        work(200)
        return time.process_time() - began_s

    return round(200 * ms / 1000 / min(took_s() for _ in range(10)))


def one_round(cell: Cell, seed: int, pieces: int) -> dict[str, Frames]:
    """System → whether each of its frames was in time."""
    with ExitStack() as stack:
        started = {name: stack.enter_context(_system(name, seed, pieces)) for name in SYSTEMS}
        time.sleep(SETTLE_S)
        with ThreadPoolExecutor(len(started)) as threads:
            found = dict(zip(started, threads.map(lambda each: _counted(cell, *each), started.values()), strict=True))
    return found


def _counted(cell: Cell, net: Lab, edge: subprocess.Popen[str], hog: Callable[[], subprocess.Popen[Any]]) -> Frames:
    """Let the cell happen and count."""
    assert edge.stdin is not None
    edge.stdin.write("count\n")
    edge.stdin.flush()
    for host, link in (("fog", cell.near), ("cloud", cell.far)):
        net.change(link, "edge", host)
        net.change(link, host, "edge")
    begin_s, end_s = cell.stress_s
    if end_s:
        time.sleep(begin_s)
        other = hog()
        time.sleep(end_s - begin_s)
        other.kill()
        other.wait()
    said, _ = edge.communicate(timeout=120)
    times: list[tuple[int, int]] = json.loads(said.splitlines()[-1])
    return _in_time(times)


def _in_time(times: list[tuple[int, int]]) -> Frames:
    """Of each frame that was due while it was counted; frames without any result are found by their gaps."""
    if not times:
        return [False] * round(SECONDS / GAP_S)
    gap_ns = round(GAP_S * 1e9)
    step_ns = times[0][0] % gap_ns
    found = {round((made - step_ns) / gap_ns): done - made <= DUE_S * 1e9 for made, done in times}
    last = max(found)
    return [found.get(number, False) for number in range(last - round(SECONDS / GAP_S) + 1, last + 1)]


@contextmanager
def _system(name: str, seed: int, pieces: int) -> Iterator[tuple[Lab, subprocess.Popen[str], Callable[[], Any]]]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        net = stack.enter_context(lab("edge", "fog", "cloud", seed=seed))
        groups = {host: stack.enter_context(processor(share)) for host, share in SHARES.items()}
        log = stack.enter_context((folder / "log").open("wb"))

        def start(place: str, *arguments: str | Path) -> subprocess.Popen[str]:
            """This Python on that host, with that host's share of a processor."""
            process = subprocess.Popen(
                [*groups[place], *net.hosts[place].command([sys.executable, *arguments])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | {"PYTHONPATH": os.getcwd()},
            )
            stack.callback(_end, process)
            return process

        for place, link in (("fog", NEAR), ("cloud", FAR)):
            net.change(link, "edge", place)
            net.change(link, place, "edge")
        host, port = "", "8123"
        if name == "thalweg":
            fog = Cloud(folder, net.fog.address)
            for place, lender in (("fog", fog), ("cloud", fog.another("cloud", net.cloud.address))):
                lender.start([*groups[place], *net.hosts[place].command([])])
                stack.callback(lender.end)
        elif name != "edge":
            host = net.hosts[name].address
            _say(start(name, "-m", "tests.netlab.missing", "serve", host, port, str(pieces)), "serves")
        node = folder / "node"
        node.mkdir(exist_ok=True)
        command = "-m", "tests.netlab.missing", "frames", name, node, str(SECONDS), str(pieces), host, port
        edge = start("edge", *command)
        _say(edge, "ready")
        yield net, edge, lambda: start("edge", "-c", "while True: pass")


def _say(process: subprocess.Popen[str], what: str) -> None:
    assert process.stdout is not None
    if (said := process.stdout.readline()) != f"{what}\n":
        raise RuntimeError(f"it said {said!r}, not {what}")


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):
                pipe.close()


def missed(frames: Frames) -> float:
    """The share."""
    return 1 - sum(frames) / len(frames)


def main(rounds: int) -> None:
    """Print the table as it is made."""
    pieces = pieces_for(WORK_MS)
    print(f"{pieces} pieces are {WORK_MS:g} ms of a core; load {os.getloadavg()[0]:.1f}")
    columns = [*SYSTEMS, "oracle"]
    print(f"{'missed, %':46}" + "".join(f"{column:>9}" for column in columns), flush=True)
    cells: dict[str, dict[str, float]] = {}
    for title, cell in CELLS.items():
        found: dict[str, list[float]] = {column: [] for column in columns}
        for seed in range(rounds):
            frames = one_round(cell, seed, pieces)
            frames["oracle"] = [any(each) for each in zip(*(frames[name] for name in STAYING), strict=True)]
            for column in columns:
                found[column].append(missed(frames[column]))
        cells[title] = {column: median(values) for column, values in found.items()}
        print(f"{title:46}" + "".join(f"{100 * cells[title][column]:9.1f}" for column in columns), flush=True)
    print(f"{'mean':46}" + "".join(f"{100 * mean(c[column] for c in cells.values()):9.1f}" for column in columns))
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
