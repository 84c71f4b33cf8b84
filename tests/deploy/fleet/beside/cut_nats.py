"""Power cuts, ours and then NATS with its default and with `sync_interval: always`: `python -m …cut_nats [POINTS]`.

As `cut_disk.py` does it: a file store on ext4 in the image of a loop device, which is copied at random moments; a
server is started from each copy, and what was acknowledged before the copy began must be in its stream. Needs root.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.deploy.fleet import cut_disk
from tests.deploy.fleet.beside.account import Missing, missing
from tests.deploy.fleet.beside.nats_server import client, config, serving, version, wait_for_port, why_not
from thalweg.deploy.bench.ports import free_port

GAP_MS = 20.0
PATIENCE_S = 120.0


def told(name: str, points: Sequence[Missing]) -> str:
    """A row of the table."""
    wrong = [point for point in points if point.lost or point.doubled]
    most, doubled = max(point.lost for point in points), sum(point.doubled for point in points)
    events = max(point.acknowledged for point in points)
    rest = f"{len(wrong)} of {len(points)} cuts wrong, {most} lost at most, {doubled} doubled"
    return f"{name}: {events} events acknowledged; {rest}; load average {os.getloadavg()[0]:.1f}"


def cut(folder: Path, points: int, sync: str, seed: int = 0) -> list[Missing]:
    """Publish one event after the other, and start from a copy of the disk at so many moments."""
    chance = random.Random(seed)
    found = []
    port = free_port()
    with (
        cut_disk.cut_off(folder) as (disk, copied),
        serving(config("edge", disk / "store", port, sync=sync), folder, "edge"),
        running(client("read")) as reader,
    ):
        wait_for_port(port)
        url = f"nats://127.0.0.1:{port}"
        subprocess.run(client("make", url), check=True, timeout=PATIENCE_S)
        subprocess.run(["sync", "-f", disk], check=True)  # what is cut is events, not the making of the stream
        with cut_disk.writing(client("publish", url, GAP_MS)) as (writer, written):
            for _ in range(points):
                time.sleep(chance.uniform(0, 0.05))
                acknowledged = written.event
                with copied() as there:
                    found.append(missing(acknowledged, started(there, folder, reader)))
                assert writer.poll() is None
    return found


def started(disk: Path, folder: Path, reader: subprocess.Popen[str]) -> list[int]:
    """The numbers in the stream of a server that starts from this disk."""
    port = free_port()
    assert reader.stdin is not None and reader.stdout is not None
    with serving(config("edge", disk / "store", port), folder, "started"):
        wait_for_port(port)
        print(f"nats://127.0.0.1:{port}", file=reader.stdin, flush=True)
        answer = reader.stdout.readline()
    assert answer, "the reader of the stream has failed"
    return [int(number) for number in answer.split()]


@contextmanager
def running(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that is killed in the end, with its pipes."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def main(points: int) -> None:
    """Print a row each."""
    with tempfile.TemporaryDirectory() as folder:
        events, releases, wrong = cut_disk.cut(Path(folder), points)
    print(
        f"thalweg: {events} events and {releases} releases acknowledged; {len(wrong)} of {points} cuts wrong",
        flush=True,
    )
    if reason := why_not():
        print(f"nats: {reason}")
        return
    for name, sync in (("default", ""), ("always", "always")):
        with tempfile.TemporaryDirectory() as folder:
            print(told(f"nats {version()}, {name}", cut(Path(folder), points, sync)), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
