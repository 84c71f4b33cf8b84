"""`nats-server` of `make bench-peers`: its configuration as a leaf node or a hub, and a process of it."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.deploy.fleet.beside import peers

CLIENT = Path(__file__).with_name("nats_client.py")
LEAF_PORT = 7422
STARTS_S = 60.0


def installed(program: str) -> Path:
    """A program of the peer; it need not be there."""
    return peers.installed("nats", program)


def why_not() -> str:
    """Why NATS cannot be met here; nothing where it can."""
    return "" if installed("nats-installed").exists() else "NATS is not installed (`make bench-peers`)"


def version() -> str:
    """Of the server."""
    told = subprocess.run([installed("nats-server"), "--version"], capture_output=True, text=True, check=True)
    return told.stdout.split()[-1].lstrip("v")


def config(name: str, store: Path, port: int, *, sync: str = "", hub: str = "", accepts: str = "") -> str:
    """A server with a file store, which clients reach at 127.0.0.1:`port`.

    `sync`: how often the store is forced to the disk, such as `always`; as NATS has it where left out (two minutes).
    `hub`: the address of the hub that this is a leaf node of; `accepts`: where this hub takes leaf nodes.
    """
    lines = [f'listen: "127.0.0.1:{port}"', f'server_name: "{name}"', "jetstream {", f'  store_dir: "{store}"']
    lines += [f"  domain: {name}", *([f"  sync_interval: {sync}"] if sync else []), "}"]
    if hub:
        lines.append(f'leafnodes {{ remotes: [{{ url: "nats-leaf://{hub}:{LEAF_PORT}" }}] }}')
    if accepts:
        lines.append(f'leafnodes {{ listen: "{accepts}:{LEAF_PORT}" }}')
    return "\n".join(lines) + "\n"


def client(*arguments: str | Path | float) -> list[str]:
    """The command line of `nats_client.py`, run by the peer's Python."""
    return [str(installed("python")), str(CLIENT), *map(str, arguments)]


@contextmanager
def serving(text: str, folder: Path, name: str, prefix: Sequence[str] = ()) -> Iterator[subprocess.Popen[bytes]]:
    """A server with this configuration, until the end; its log is NAME.log. `prefix`: what runs it elsewhere."""
    path = folder / f"{name}.conf"
    path.write_text(text, encoding="utf-8")
    with (folder / f"{name}.log").open("ab") as log:
        command = [*prefix, str(installed("nats-server")), "-c", str(path)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for_port(port: int) -> None:
    """Until something listens at 127.0.0.1. Raises TimeoutError."""
    until_s = time.monotonic() + STARTS_S
    while time.monotonic() < until_s:
        with socket.socket() as probe:
            if not probe.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.02)
    raise TimeoutError(f"nothing listens at port {port}")
