"""An hour without a hub, time-lapsed: ours, a plain queue, NATS. `python -m tests.deploy.fleet.beside.hour
[EVENTS [SYSTEM …]]`.

Two hosts, 1 Mbit/s and 40 ms apart. An event of some 120 bytes is made 3 ms after the one before was acknowledged; the
link is away until 36,000 were (an hour of ten a second), and comes back; they go on to be made. Prints a row for each.
Needs root.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Protocol

import msgpack

from tests.deploy.fleet.beside.account import Account, Missing, Seen, account, missing
from tests.deploy.fleet.beside.nats_server import client, config, serving, version, why_not
from tests.deploy.fleet.processes import Fleet
from tests.netlab import Lab, Link, lab
from thalweg.transports.fleet.segment import MAGIC, records

LINK = Link(delay_ms=40, jitter_ms=5, rate=1e6, queue_bytes=64_000)
AWAY = Link(outages=((0, 3600),))
SYSTEMS = ("thalweg", "default", "always", "queue")
"""As they are named on the command line; default, always: NATS."""
GAP_MS, HOUR, WARM = 3, 36_000, 100
LOOK_S, PATIENCE_S, GOES_ON_S = 0.05, 300.0, 5.0
NATS_PORT, QUEUE_PORT = 4222, 7000
QUEUE = Path(__file__).with_name("queue_ends.py")


class System(Protocol):
    """One that is measured. `acknowledged`: how many events are on the edge's disk, as it says."""

    def acknowledged(self) -> int: ...
    def seen(self) -> dict[str, list[Seen]]: ...
    def end(self) -> Missing: ...


class Ours:
    """A hub and a node whose pipeline is a beacon. What is at the hub is read from its files, 20 times a second."""

    def __init__(self, stack: ExitStack, folder: Path, net: Lab) -> None:
        self._fleet = stack.enter_context(Fleet(folder, net.cloud, net.edge))
        self._fleet.start_hub()
        self._fleet.enrol()
        self._fleet.start_node()
        self._fleet.roll_out("--set", f"gap={GAP_MS}")
        self._stored: list[Seen] = []
        self._read: dict[Path, int] = {}
        self._spooled: set[int] = set()
        self._at_edge: dict[Path, int] = {}

    def acknowledged(self) -> int:
        """What is at the hub, or in the spool."""
        spool = self._fleet.folder / "node/spool"
        self._spooled.update(seen.number for seen in new_events(spool, self._at_edge))
        return len(self._spooled)

    def seen(self) -> dict[str, list[Seen]]:
        """Read on."""
        self._stored += new_events(self._fleet.folder / "hub/nodes/drone-7/records", self._read)
        return {"stored": self._stored}

    def end(self) -> Missing:
        """The newest are still in the spool, which the node leaves as it is."""
        self._fleet.end("node")
        self.acknowledged()
        found = [seen.number for seen in self.seen()["stored"]]
        waiting = {seen.number for seen in new_events(self._fleet.folder / "node/spool", {})} - set(found)
        return missing(max(self._spooled | set(found)), [*found, *waiting])


class Processes:
    """A process at the edge that prints `event NUMBER`, and one beside the hub that prints what it sees."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._last = -1
        self._seen: dict[str, list[Seen]] = {"stored": [], "live": []}
        self._ready = threading.Event()
        self.writer: subprocess.Popen[str] | None = None

    def start(self, command: list[str], listen: Callable[[IO[str]], None]) -> subprocess.Popen[str]:
        """Ended with the stack."""
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        assert process.stdout is not None
        listening = threading.Thread(target=listen, args=(process.stdout,))
        listening.start()
        self._stack.callback(process.stdout.close)
        self._stack.callback(listening.join)
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process

    def run(self, watching: list[str], writing: list[str]) -> None:
        """Both."""
        self.start(watching, self._hear_seen)
        assert self._ready.wait(PATIENCE_S), "nothing listens at the hub"
        self.writer = self.start(writing, self._hear_events)

    def acknowledged(self) -> int:
        """As the writer says."""
        return self._last + 1

    def seen(self) -> dict[str, list[Seen]]:
        """What was seen until now."""
        return self._seen

    def end(self) -> Missing:
        """Everything acknowledged has time to come."""
        assert self.writer is not None
        self.writer.kill()
        self.writer.wait()
        look_until(lambda: len(self._seen["stored"]) > self._last, LOOK_S)
        return missing(self._last, [seen.number for seen in self._seen["stored"]])

    def _hear_events(self, pipe: IO[str]) -> None:
        for line in pipe:
            self._last = int(line.split()[1])

    def _hear_seen(self, pipe: IO[str]) -> None:
        for line in pipe:
            way, *rest = line.split()
            if way == "ready":
                self._ready.set()
            else:
                self._seen[way].append(Seen(*map(int, rest)))


def new_events(folder: Path, read: dict[Path, int]) -> list[Seen]:
    """The beacon's events in these segments behind what was read of each, which is noted."""
    found, now_ns = [], time.time_ns()
    for path in sorted(folder.glob("*.seg")):
        try:
            with path.open("rb") as file:
                file.seek(read.get(path, len(MAGIC)))
                data = file.read()
        except FileNotFoundError:  # all of it is at the hub
            continue
        end = 0
        for record in records(data):
            end = record.end
            if record.stored.stream == "beacon.token":
                number = int(msgpack.unpackb(record.stored.payload)["payload"]["text"])
                found.append(Seen(number, record.stored.time_ns, now_ns))
        read[path] = read.get(path, len(MAGIC)) + end
    return found


class Queue(Processes):
    """Its writer is its sender, too: what that has not sent when it is killed is in its file."""

    def __init__(self, stack: ExitStack, file: Path) -> None:
        super().__init__(stack)
        self._file = file

    def end(self) -> Missing:
        """As it stands."""
        assert self.writer is not None
        self.writer.kill()
        self.writer.wait()
        time.sleep(GOES_ON_S)
        found = [seen.number for seen in self.seen()["stored"]]
        kept = {int(line.split()[0]) for line in self._file.read_bytes().splitlines()}
        return missing(self.acknowledged() - 1, [*found, *(kept - set(found))])


def plain_queue(stack: ExitStack, folder: Path, net: Lab) -> System:
    """See `queue_ends.py`."""
    where = str(folder), net.cloud.address, str(QUEUE_PORT)
    queue = Queue(stack, folder / "send.queue")
    receiving = net.cloud.command([sys.executable, QUEUE, "receive", *where])
    queue.run(receiving, net.edge.command([sys.executable, QUEUE, "send", *where, str(GAP_MS)]))
    return queue


def nats(sync: str) -> Callable[[ExitStack, Path, Lab], System]:
    """A leaf node at the edge, and a stream at the hub that mirrors its own."""

    def begin(stack: ExitStack, folder: Path, net: Lab) -> System:
        hub = config("hub", folder / "hub", NATS_PORT, sync=sync, accepts=net.cloud.address)
        edge = config("edge", folder / "edge", NATS_PORT, sync=sync, hub=net.cloud.address)
        stack.enter_context(serving(hub, folder, "hub", net.cloud.command([])))
        stack.enter_context(serving(edge, folder, "edge", net.edge.command([])))
        url = f"nats://127.0.0.1:{NATS_PORT}"
        net.edge.run(client("make", url))
        net.cloud.run(client("make", url, "edge"))
        peer = Processes(stack)
        peer.run(net.cloud.command(client("watch", url)), net.edge.command(client("publish", url, GAP_MS)))
        return peer

    return begin


def measure(begin: Callable[[ExitStack, Path, Lab], System], events: int) -> tuple[float, dict[str, Account], Missing]:
    """Events a second without a link, what is to be said of each way to the hub, and what is missing."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        net = stack.enter_context(lab("edge", "cloud", link=LINK, seed=7))
        system = begin(stack, folder, net)
        look_until(lambda: len(system.seen()["stored"]) > WARM)
        net.change(AWAY)
        began_s, before = time.monotonic(), system.acknowledged()
        # looking at both: what was under way when the link went is seen before it is back
        look_until(lambda: bool(system.seen()) and system.acknowledged() - before > events, 0.5)
        rate = (system.acknowledged() - before) / (time.monotonic() - began_s)
        waiting, back_ns = system.acknowledged(), time.time_ns()
        net.change(LINK)
        look_until(lambda: len(system.seen()["stored"]) >= waiting and all_waited(system.seen()["stored"], waiting))
        goes_on_s = time.monotonic() + GOES_ON_S
        look_until(lambda: bool(system.seen()) and time.monotonic() > goes_on_s)  # looking all the time
        seen = system.seen()
        ways = {way: account(seen["stored"], back_ns, list(each)) for way, each in seen.items() if each}
        return rate, ways, system.end()


def all_waited(stored: list[Seen], waiting: int) -> bool:
    """Whether everything up to there has come."""
    return len({seen.number for seen in stored if seen.number < waiting}) >= waiting


def look_until(condition: Callable[[], bool], every_s: float = LOOK_S) -> None:
    """Goes on where it does not come to pass: the account says what is missing."""
    until_s = time.monotonic() + PATIENCE_S
    while not condition() and time.monotonic() < until_s:
        time.sleep(every_s)


def row(name: str, found: Account) -> str:
    """For people."""
    return (
        f"{name}: {found.waited} waited; the first came after {found.first_s:.1f} s, all {found.drained_s:.1f} s; "
        f"p95 of {found.fresh} new ones meanwhile {found.fresh_p95_ms:.0f} ms (worst half second "
        f"{found.fresh_worst_ms:.0f} ms), of all since the link is back {found.since_back_p95_ms:.0f} ms"
    )


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """Of the command line. Raises SystemExit."""
    parser = argparse.ArgumentParser(prog="python -m tests.deploy.fleet.beside.hour", description=__doc__)
    parser.add_argument("events", nargs="?", type=int, default=HOUR, help=f"made without a link; default: {HOUR}")
    parser.add_argument("systems", nargs="*", metavar="SYSTEM", help=f"of {', '.join(SYSTEMS)}; default: all")
    found = parser.parse_args(given)
    if unknown := set(found.systems) - set(SYSTEMS):
        parser.error(f"there is no system {', '.join(sorted(unknown))}; there are: {', '.join(SYSTEMS)}")
    return found


def main(events: int, names: list[str]) -> None:
    """Print a row for each way of each system."""
    systems: dict[str, Callable[[ExitStack, Path, Lab], System]] = {"thalweg": Ours}
    if reason := why_not():
        print(f"nats: {reason}")
    else:
        systems |= {f"nats {version()}, default": nats(""), f"nats {version()}, always": nats("always")}
    systems["queue"] = plain_queue
    for name, begin in systems.items():
        if names and name.split()[-1] not in names:
            continue
        rate, ways, gone = measure(begin, events)
        for way, found in ways.items():
            print(row(f"{name}, {way}", found))
        print(
            f"{name}: {gone.acknowledged} acknowledged, {gone.lost} lost, {gone.doubled} doubled; {rate:.0f} events a "
            f"second; load average {os.getloadavg()[0]:.1f}",
            flush=True,
        )


if __name__ == "__main__":
    asked = arguments()
    main(asked.events, asked.systems)
