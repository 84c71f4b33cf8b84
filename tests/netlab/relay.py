"""The process between the hosts of a lab: `python -m tests.netlab`, started by `lab`; see there.

It reads its orders as JSON lines from standard input and answers each with one on standard output:

    {"make": "NAMESPACE", "name": "a", "address": "10.77.0.1"}     makes a host with the interface `net0`
    {"link": ["a", "b"], "is": {…}, "seed": "…"}                   from now on packets from a to b meet this link
    {"ask": "counts"}                                              what became of the packets, per direction
    {"log": "PATH"}                                                one CSV row per packet from now on

When standard input ends, by an order or because whoever gave orders is dead, it kills what runs on the hosts, removes
them, and ends.
"""

from __future__ import annotations

import csv
import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from thalweg.pipeline.video.impairment import Burst, Impairment, Link

MTU = 1500
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_PER_TURN = 64
_PR_SET_TIMERSLACK = 29


def link_as_plain(link: Link) -> dict[str, Any]:
    """A link as JSON; `link_from_plain` reads it."""
    plain = {field.name: getattr(link, field.name) for field in fields(link)}
    if link.burst is not None:
        plain["burst"] = {field.name: getattr(link.burst, field.name) for field in fields(link.burst)}
    return plain


def link_from_plain(plain: dict[str, Any]) -> Link:
    """The link."""
    burst = plain["burst"]
    return Link(**(plain | {"burst": Burst(**burst) if burst else None}))


@dataclass(slots=True)
class _Port:
    name: str
    namespace: str
    address: bytes
    tun: int


class Relay:
    """Hosts, the links between them and the packets on their way."""

    def __init__(self) -> None:
        self._ports: dict[str, _Port] = {}
        self._by_address: dict[bytes, _Port] = {}
        self._links: dict[tuple[str, str], Impairment[bytes]] = {}
        self._strays = 0
        self._refused = 0
        self._log: Any = None

    def run(self, orders: int) -> None:
        """Serve until the orders end."""
        rest = b""
        while True:
            timeout = self._deliver()
            ready, _, _ = select.select([orders, *(port.tun for port in self._ports.values())], [], [], timeout)
            for port in self._ports.values():
                if port.tun in ready:
                    self._take(port)
            if orders in ready:
                read = os.read(orders, 65_536)
                if not read:
                    return
                *lines, rest = (rest + read).split(b"\n")
                for line in lines:
                    print(json.dumps(self._obey(json.loads(line))), flush=True)

    def remove(self) -> None:
        """Kill what runs on the hosts and remove them."""
        for port in self._ports.values():
            remove_namespace(port.namespace)
            os.close(port.tun)
        self._ports.clear()

    def _deliver(self) -> float | None:
        """Pass on what has arrived; the seconds until something else does."""
        soonest: int | None = None
        for (source, target), link in self._links.items():
            now_ns = time.monotonic_ns()
            tun = self._ports[target].tun
            while (packet := link.pop(now_ns)) is not None:
                try:
                    os.write(tun, packet)
                except OSError:  # the host's interface is down, or it has no memory for more
                    self._refused += 1
                if self._log is not None:
                    self._log.writerow([now_ns, source, target, len(packet), "delivered"])
            next_ns = link.next_ns
            if next_ns is not None and (soonest is None or next_ns < soonest):
                soonest = next_ns
        return None if soonest is None else max(0.0, (soonest - time.monotonic_ns()) / 1e9)

    def _take(self, port: _Port) -> None:
        for _ in range(_PER_TURN):
            try:
                packet = os.read(port.tun, 65_536)
            except BlockingIOError:
                return
            target = self._by_address.get(packet[16:20]) if packet[0] >> 4 == 4 else None
            if target is None or target is port:
                self._strays += 1
                continue
            now_ns = time.monotonic_ns()
            loss = self._links[port.name, target.name].push(packet, len(packet), now_ns)
            if self._log is not None:
                fate = loss.value if loss else "sent"
                self._log.writerow([now_ns, port.name, target.name, len(packet), fate])

    def _obey(self, order: dict[str, Any]) -> dict[str, Any]:
        try:
            if "make" in order:
                self._make(order["make"], order["name"], order["address"])
            elif "link" in order:
                self._link(order["link"][0], order["link"][1], link_from_plain(order["is"]), order["seed"])
            elif "log" in order:
                self._log = csv.writer(Path(order["log"]).open("w", encoding="utf-8", buffering=1))
                self._log.writerow(["time_ns", "from", "to", "bytes", "fate"])
            else:
                return {"counts": self._counts()}
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", None) or str(error)
            return {"error": f"cannot do {order}: {said.strip()}"}
        return {}

    def _make(self, namespace: str, name: str, address: str) -> None:
        packed = socket.inet_aton(address)
        _ip("netns", "add", namespace)
        tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        self._ports[name] = port = _Port(name, namespace, packed, tun)
        request = struct.pack("16sH22x", b"twlab%d", _IFF_TUN | _IFF_NO_PI)
        device = fcntl.ioctl(tun, _TUNSETIFF, request)[:16].rstrip(b"\0").decode()
        _ip("link", "set", device, "netns", namespace)
        orders = [
            "link set lo up",
            f"link set {device} name net0 mtu {MTU} txqueuelen 10000",
            "link set net0 addrgenmode none",
            f"addr add {address}/24 dev net0",
            "link set net0 up",
            "route add default dev net0",
        ]
        _ip("-n", namespace, "-batch", "-", text="\n".join(orders))
        self._by_address[port.address] = port

    def _link(self, source: str, target: str, link: Link, seed: str) -> None:
        now_ns = time.monotonic_ns()
        if (source, target) in self._links:
            self._links[source, target].change(link, now_ns)
        else:
            self._links[source, target] = Impairment(link, seed, start_ns=now_ns)

    def _counts(self) -> dict[str, Any]:
        links = {
            f"{source} -> {target}": {
                "sent": link.pushed,
                "delivered": link.delivered,
                "inside": len(link),
                **{loss.value: number for loss, number in link.lost.items()},
            }
            for (source, target), link in self._links.items()
        }
        return {"links": links, "strays": self._strays, "refused": self._refused}


def remove_namespace(name: str) -> None:
    """Kill every process in a namespace and remove it. Idempotent."""
    for _ in range(50):
        listed = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False)
        if listed.returncode or not listed.stdout.split():
            break
        for pid in listed.stdout.split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        time.sleep(0.01)
    subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def _ip(*arguments: str, text: str | None = None) -> None:
    subprocess.run(["ip", *arguments], input=text, capture_output=True, text=True, check=True)


def main() -> None:
    """Entry point. An interrupt from the keyboard is the business of whoever gives the orders."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with suppress(OSError):
        os.nice(-10)  # late packets would look like the network's fault
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1)
    relay = Relay()
    try:
        relay.run(sys.stdin.fileno())
    finally:
        relay.remove()
