"""Two network namespaces joined by a wire: neither Chromium nor aiortc offers loopback as a way to be reached."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tests.conftest import require


@dataclass(frozen=True, slots=True)
class Wire:
    """`server` and `client` are the namespaces, `address` is the server's."""

    server: str
    client: str
    address: str

    def within(self, name: str, command: Sequence[str]) -> list[str]:
        """The command that runs `command` inside namespace `name`."""
        return ["ip", "netns", "exec", name, *command]


@contextmanager
def wire(name: str) -> Iterator[Wire]:
    """Make the namespaces `NAME-s` and `NAME-c`; skips where that is not possible."""
    require(shutil.which("ip"), "apt-get install iproute2")
    require(os.geteuid() == 0, "root, to make network namespaces")
    ends = Wire(f"{name}-s", f"{name}-c", "10.79.0.1")
    _remove(ends)
    made = subprocess.run(["ip", "netns", "add", ends.server], capture_output=True, text=True, check=False)
    require(made.returncode == 0, f"network namespaces ({made.stderr.strip()})")
    try:
        for command in (
            f"ip netns add {ends.client}",
            f"ip link add {name}0 netns {ends.server} type veth peer name {name}1 netns {ends.client}",
            f"ip -n {ends.server} addr add {ends.address}/24 dev {name}0",
            f"ip -n {ends.client} addr add 10.79.0.2/24 dev {name}1",
            f"ip -n {ends.server} link set {name}0 up",
            f"ip -n {ends.client} link set {name}1 up",
            f"ip -n {ends.server} link set lo up",
            f"ip -n {ends.client} link set lo up",
        ):
            subprocess.run(command.split(), check=True, capture_output=True)
        yield ends
    finally:
        _remove(ends)


def _remove(ends: Wire) -> None:
    for name in (ends.server, ends.client):
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
