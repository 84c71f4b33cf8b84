"""`thalweg node lend`: an enrolled machine lends workers, as the hub allows it, and goes on lending without the hub.

    lender.pem       certificate and key with which it answers nodes; the hub gives it to those enrolled with `--lends`
    admitted.json    node → serial numbers of its working certificates, as the hub last said

Both are asked for at each start and then again and again; what was had last is used while the hub is away.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from thalweg.deploy.fleet import certificates as certs
from thalweg.deploy.fleet.errors import FleetError
from thalweg.deploy.fleet.lending.lender import Admits, Lender, LenderFiles
from thalweg.deploy.fleet.lending.process import worker_here
from thalweg.deploy.fleet.lending.ray_worker import RayWorker
from thalweg.deploy.fleet.node.asking import HubRefused
from thalweg.deploy.fleet.node.identity import Identity
from thalweg.deploy.ops.keeping.systemd import notify
from thalweg.deploy.runtime.tasks import beside
from thalweg.models.store.bounded import read_at_most
from thalweg.models.store.fitting import allowed_memory
from thalweg.pipeline.errors import ThalwegError
from thalweg.stages.io.terminal import say
from thalweg.transports.fleet.durable import replace_file

log = logging.getLogger(__name__)

TELL_S = 10.0
PORT = 7444


class Lending:
    """What the hub knows and says of this lender. `port`: where it listens; `host`: how nodes reach it, where that is
    not the address by which the hub sees it. `tell` and `renew` block, for threads.
    """

    def __init__(self, identity: Identity, host: str) -> None:
        self.port = 0
        self._identity = identity
        self._host = host
        self._folder = identity.folder
        self._admitted = self._written = self._read()
        self._problem = ""

    @property
    def files(self) -> LenderFiles:
        """What it listens with. Raises FleetError where the hub has never given it a certificate."""
        files = LenderFiles(self._folder / "authority.pem", self._folder / "lender.pem")
        if not files.lender.exists():
            raise FleetError(
                f"this node has no certificate to lend with: {self._problem or 'the hub has not answered'}; "
                "enrol it by a code of `thalweg hub enrol NAME --lends PLACE`"
            )
        return files

    def renew(self) -> None:
        """Get a certificate to answer with. A failure is reported where it has none yet."""
        key = certs.make_key()
        try:
            with self._identity.client() as client:
                given = client.call("/v1/lend", {"request": certs.make_request(key)})
            replace_file(self._folder / "lender.pem", given["lender"] + key)
        except (ThalwegError, OSError, KeyError, TypeError) as error:
            self._problem = str(error)

    def tell(self, lent: dict[str, int], free: int) -> None:
        """Say that it lends, and hear who may borrow."""
        try:
            with self._identity.client() as client:
                answer = client.call("/v1/lending", {"host": self._host, "port": self.port, "lent": lent, "free": free})
            admitted = {str(name): [str(serial) for serial in found] for name, found in answer["admitted"].items()}
            self._admitted = admitted  # at once, also where the disk does not take it
            self._identity.heard(float(answer["time"]))
            if admitted != self._written:
                replace_file(self._folder / "admitted.json", json.dumps(admitted).encode())
                self._written = admitted
            if self._identity.renewal_due(float(answer["time"])):
                self._identity.renew()
            self._problem = ""
        except (ThalwegError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            if str(error) != self._problem:
                self._problem = str(error)
                log.log(logging.ERROR if isinstance(error, HubRefused) else logging.WARNING, "%s", error)

    def admits(self, name: str, kind: str, serial: int) -> str:
        """Why the holder of this certificate may not borrow; empty where it may."""
        if kind != certs.WORKING:
            return f"a {kind or 'nameless'} certificate does not borrow"
        if str(serial) not in self._admitted.get(name, ()):
            return "the hub has not said that this node may, or has said that it may no more"
        return ""

    def _read(self) -> dict[str, list[str]]:
        try:
            found: dict[str, list[str]] = json.loads(read_at_most(self._folder / "admitted.json"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            log.error("admitted.json cannot be read: %s; no node may borrow until the hub has answered", error)
            return {}
        return found


def share_of_memory(workers: int) -> int:
    """What each of so many workers may allocate where nothing is said, bytes: its share of what this process and all
    beside it may use.
    """
    return allowed_memory() // workers


@dataclass(frozen=True, slots=True)
class Lent:
    """What is lent: so many workers, which run in `place` with so much memory each, by default a share of this
    machine's, and no limit on Ray. `ray`: what each asks of the Ray cluster in which it runs; None: it runs here.
    """

    workers: int
    place: Path
    memory_bytes: int | None = None
    ray: Mapping[str, Any] | None = None

    def lender(self, files: LenderFiles, admits: Admits) -> Lender:
        """Who lends it."""
        if self.ray is None:
            return Lender(files, admits, self.workers, self.place, worker_here(self._memory_bytes))
        asked = RayWorker(str(self.place.resolve()), self._memory_bytes, **self.ray)
        return Lender(files, admits, self.workers, Path.cwd(), asked.program())

    def check(self) -> None:
        """Raises FleetError where workers could never be started."""
        if self.ray is not None and find_spec("ray") is None:
            raise FleetError("workers on Ray want Ray, which is missing: pip install 'thalweg[ray]'")
        if self.ray is None and not self.place.is_dir():
            raise FleetError(f"{self.place} is no folder: lent workers need one to run in")

    def __str__(self) -> str:
        memory = f" of {self._memory_bytes / 1e9:.1f} GB" if self._memory_bytes > 0 else ""
        return f"{self.workers} worker(s){memory}" + (" on Ray" if self.ray is not None else "")

    @property
    def _memory_bytes(self) -> int:
        return self.memory_bytes or (share_of_memory(self.workers) if self.ray is None else -1)


def run_lender(folder: Path, host: str, port: int, told_host: str, lent: Lent) -> int:
    """Lend until told to stop. Raises FleetError where this folder is no node, or may not lend, or cannot listen."""
    identity = Identity(folder)
    lent.check()
    try:
        return asyncio.run(_run(identity, host, port, told_host, lent))
    except OSError as error:
        raise FleetError(f"cannot listen at {host}:{port}: {error.strerror or error}") from None


async def _run(identity: Identity, host: str, port: int, told_host: str, lent: Lent) -> int:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    lending = Lending(identity, told_host)
    await asyncio.to_thread(lending.renew)
    lender = lent.lender(lending.files, lending.admits)
    async with AsyncExitStack() as stack:
        found = lending.port = await stack.enter_async_context(lender.listening(host, port))
        await stack.enter_async_context(beside(_tell_on(lending, lender)))
        say(f"{identity.name} lends {lent} at {host}:{found}", err=True)
        notify("READY=1")
        await stopping.wait()
    return 0


async def _tell_on(lending: Lending, lender: Lender) -> Any:
    while True:
        began_s = time.monotonic()
        await asyncio.to_thread(lending.tell, lender.lent, lender.free)
        lender.review()
        notify("WATCHDOG=1")
        await asyncio.sleep(max(0.0, TELL_S - (time.monotonic() - began_s)))
