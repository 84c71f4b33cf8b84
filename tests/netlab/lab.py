"""The lab as tests see it; the work is done by `relay`, in a process of its own that outlives nobody."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.netlab.relay import link_as_plain, remove_namespace
from thalweg.pipeline.video.impairment import Link

_ROOT = Path(__file__).resolve().parent.parent.parent
_PREFIX = "twlab"
_NAME = re.compile(r"[a-z][a-z0-9]{0,8}")


class LabError(Exception):
    """A lab that cannot be made, or an order that it could not follow."""


class Host:
    """A host of a lab: a network namespace with the address `address`. File system, users and time are shared."""

    def __init__(self, name: str, address: str, namespace: str) -> None:
        self.name = name
        self.address = address
        self.namespace = namespace
        self._started: list[subprocess.Popen[Any]] = []

    def command(self, arguments: Sequence[str | Path]) -> list[str]:
        """The command line that runs `arguments` here; for whoever starts processes in another way."""
        return ["ip", "netns", "exec", self.namespace, *map(str, arguments)]

    def popen(self, arguments: Sequence[str | Path], **options: Any) -> subprocess.Popen[Any]:
        """Start a process here; see `subprocess.Popen`. It is killed, and waited for, when the lab ends."""
        process = subprocess.Popen(self.command(arguments), **options)
        self._started.append(process)
        return process

    def run(self, arguments: Sequence[str | Path], **options: Any) -> subprocess.CompletedProcess[Any]:
        """Run a process here to its end; see `subprocess.run`. Text is captured and failure raises, unless said."""
        options = {"capture_output": True, "text": True, "check": True, "timeout": 60} | options
        return subprocess.run(self.command(arguments), **options)

    def python(self, *arguments: str | Path, **options: Any) -> subprocess.Popen[Any]:
        """Start this Python here, with `thalweg` as this process has it."""
        options["env"] = (options.get("env") or os.environ) | {"PYTHONPATH": str(_ROOT)}
        return self.popen([sys.executable, *arguments], **options)

    def end(self) -> None:
        """Kill what was started here."""
        for process in self._started:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with suppress(BrokenPipeError):
                        pipe.close()
        self._started.clear()


class Lab:
    """Hosts as attributes by their names, each able to reach the others over one link per direction."""

    def __init__(self, hosts: Mapping[str, Host], relay: subprocess.Popen[str], seed: int) -> None:
        self.hosts = hosts
        self._relay = relay
        self._seed = seed

    def __getattr__(self, name: str) -> Host:
        try:
            return self.hosts[name]
        except KeyError:
            raise AttributeError(f"the lab has no host {name!r}, only {', '.join(self.hosts)}") from None

    @property
    def relay_pid(self) -> int:
        """The process that moves the packets."""
        return self._relay.pid

    def change(self, link: Link, source: str | None = None, target: str | None = None) -> None:
        """Use this link from now on: from `source` to `target`, or wherever one of them is not given, all."""
        for a in self.hosts:
            for b in self.hosts:
                if a != b and source in (None, a) and target in (None, b):
                    self._order({"link": [a, b], "is": link_as_plain(link), "seed": f"{self._seed}/{a}/{b}"})

    def counts(self) -> dict[str, Any]:
        """`{"links": {"a -> b": {sent, delivered, inside, random, burst, overflow, outage}}, strays, refused}`.

        `strays`: packets to nobody. `refused`: packets that arrived and the host's interface did not take.
        """
        found: dict[str, Any] = self._order({"ask": "counts"})["counts"]
        return found

    def log(self, path: Path) -> None:
        """From now on write one CSV row for each packet sent, lost or delivered."""
        self._order({"log": str(path)})

    def _order(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._relay.stdin is not None and self._relay.stdout is not None
        try:
            self._relay.stdin.write(json.dumps(order) + "\n")
            self._relay.stdin.flush()
            answer = json.loads(self._relay.stdout.readline() or '{"error": "the relay is gone"}')
        except BrokenPipeError:
            answer = {"error": "the relay is gone"}
        if "error" in answer:
            raise LabError(answer["error"])
        return dict(answer)


@contextmanager
def lab(*names: str, link: Link | None = None, seed: int = 0, **addresses: str) -> Iterator[Lab]:
    """Make hosts, by name or `name="10.77.0.1"`, joined by `link` in each direction; remove them in the end.

    Labs do not see each other: any number may run at once, with the same addresses. Nothing is left however this
    ends: when this process is killed the relay removes the hosts, and when both are killed the next lab does.
    Raises LabError where `why_not` has a reason.
    """
    reason = why_not()
    if reason is not None:
        raise LabError(reason)
    _sweep()
    wanted = {name: f"10.77.0.{number}" for number, name in enumerate(names, 1)} | addresses
    wrong = [name for name in wanted if not _NAME.fullmatch(name) or hasattr(Lab, name)]
    if wrong:
        raise LabError(f"a host cannot be called {', '.join(wrong)}: a short word of small letters and digits")
    stem = f"{_PREFIX}-{os.getpid()}-{secrets.token_hex(3)}"
    hosts = {name: Host(name, address, f"{stem}-{name}") for name, address in wanted.items()}
    relay = subprocess.Popen(
        [sys.executable, "-m", "tests.netlab"],
        cwd=_ROOT,
        env=os.environ | {"PYTHONPATH": str(_ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    net = Lab(hosts, relay, seed)
    try:
        for host in hosts.values():
            net._order({"make": host.namespace, "name": host.name, "address": host.address})
        net.change(link or Link())
        yield net
    finally:
        for host in hosts.values():
            host.end()
        with suppress(subprocess.TimeoutExpired):
            relay.communicate(timeout=10)
        relay.kill()
        relay.wait()
        for host in hosts.values():
            if Path("/run/netns", host.namespace).exists():
                remove_namespace(host.namespace)


def why_not() -> str | None:
    """Why no lab can be made here, or None where one can."""
    if shutil.which("ip") is None:
        return "network namespaces need `ip`: apt-get install iproute2"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "network namespaces need /dev/net/tun and root: run as root, in a container with --device /dev/net/tun"
    probe = f"{_PREFIX}-{os.getpid()}-{secrets.token_hex(3)}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"network namespaces are not permitted here, run as root with CAP_SYS_ADMIN: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "delete", probe], capture_output=True, check=False)
    return None


def _sweep() -> None:
    """Remove hosts whose makers were killed together with their relays."""
    for path in Path("/run/netns").glob(f"{_PREFIX}-*"):
        if not Path(f"/proc/{path.name.split('-')[1]}").exists():
            remove_namespace(path.name)
