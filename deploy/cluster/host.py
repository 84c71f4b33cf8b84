"""A worker with its links: what runs the same in this process, in a subprocess and as a Ray actor.

A launcher makes a `Host` somewhere and calls, in this order: `prepare`, `listen`, `connect`, `open`, `run`; at any
time `stats`, `stop` or `abandon`, and `close` in the end. Only when every host of a deployment has done one step does
any take the next, so nothing is sent to a stage that is not open.

A host that takes the place of a lost one is called `prepare`, `open`, `restore`, `listen`, `connect`, `run`; its
neighbours are told to `relink`. While it runs a host is asked for its `beat` all the time.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thalweg.deploy.cluster.heartbeat import Beat, Heartbeat
from thalweg.deploy.ops.observing.outcome import Outcome, Problem, outcome_of
from thalweg.deploy.ops.observing.stats import WorkerStats, stats_of
from thalweg.deploy.runtime.checkpoint import restore_checkpoint
from thalweg.deploy.runtime.remembering import Memory, memory_of, recall_memory
from thalweg.deploy.runtime.worker import Worker
from thalweg.pipeline.channel import Policy
from thalweg.pipeline.file.plan import GRPC, SHARED_MEMORY, Plan
from thalweg.pipeline.file.spec import Spec, load_spec
from thalweg.pipeline.graph import Connection
from thalweg.pipeline.observing.trace import Trace
from thalweg.pipeline.observing.turn import KEPT, KEPT_STAYING
from thalweg.transports.grpc.tls import Certificates
from thalweg.transports.link import Receiver, TransportError
from thalweg.transports.shm.support import missing as shared_memory_lacks

if TYPE_CHECKING:
    from thalweg.transports.grpc.listener import GrpcListener
    from thalweg.transports.grpc.sender import GrpcSender
    from thalweg.transports.shm.listener import ShmListener

WINDOW_AT_MOST = 256
CONNECT_S = 10

Routes = Mapping[str, tuple[str, str, int]]
"""Edge → transport, address, generation of the link."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A pipeline file with everything needed to read it elsewhere. `files`: path → text; `main`: the first of them.

    `paths`: folders in which classes named `module:Class` are looked for, where they exist there too. `stays`: it is
    run as a deployment that stays, see `Plan.staying`.
    """

    main: str
    files: Mapping[str, str]
    settings: Mapping[str, str]
    token: str
    traced: bool = False
    paths: tuple[str, ...] = ()
    stays: bool = False

    def plain(self) -> dict[str, Any]:
        """As dicts and scalars; `Bundle(**plain)` reads it."""
        return {
            "main": self.main,
            "files": dict(self.files),
            "settings": dict(self.settings),
            "token": self.token,
            "traced": self.traced,
            "paths": list(self.paths),
            "stays": self.stays,
        }

    @property
    def digest(self) -> str:
        """Equal for bundles of the same pipeline and settings; tokens are ignored."""
        plain = self.plain()
        told = json.dumps([plain["main"], plain["files"], plain["settings"], plain["paths"]], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()[:32]


def host_identity() -> str:
    """The same for two processes exactly where they can share memory by an abstract socket, of one user. Before the
    `/`: the same where they share a boot.
    """
    try:
        machine = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        namespace = f"{os.readlink('/proc/self/ns/net')} of {os.geteuid()}"
    except OSError:  # no /proc
        machine, namespace = socket.gethostname(), ""
    if not namespace or shared_memory_lacks():
        namespace = f"process {os.getpid()}"
    return f"{machine}/{namespace}"


class Host:
    """Hosts the stages that the plan of `spec` gives to `name`.

    `token`: who connects here must know it. `worker`: one that is ready to run, in place of one made from `spec`.
    """

    def __init__(
        self,
        name: str,
        spec: Spec,
        on_problem: Callable[[Problem], None] | None = None,
        *,
        token: str = "",
        traced: bool = False,
        worker: Worker | None = None,
    ) -> None:
        self.name = name
        self.plan: Plan = spec.plan
        self.worker = worker or make_worker(name, spec, Trace() if traced else None)
        self.worker.on_problem = on_problem
        self._token = token
        self._senders: list[GrpcSender] = []
        self._pulse = Heartbeat(self.worker, checkpoints=spec.plan.workers[name].restart.may_return)
        self._windows = {c.name: window_of(c) for c in spec.deployed.connections}
        self._shm: ShmListener | None = None
        self._grpc: GrpcListener | None = None
        self._addresses: dict[str, str] = {}
        self._missing = set(self.worker.inlets) if worker is None else set()  # one that is ready has its links
        self._complete = asyncio.Event()

    @classmethod
    def of_bundle(cls, name: str, bundle: Bundle, on_problem: Callable[[Problem], None] | None = None) -> Host:
        """The host in another process than the one that read the file. Raises as `load_bundle`."""
        return cls(name, load_bundle(bundle), on_problem, token=bundle.token, traced=bundle.traced)

    async def prepare(self) -> str:
        """Where this is: see `host_identity`."""
        return host_identity()

    async def listen(self, edges: Mapping[str, str], address: str, certificates: list[bytes] | None) -> dict[str, str]:
        """Listen for the producers of incoming edges, `edges`: edge → transport. May be called again for more.

        `address`: where gRPC may listen; empty for the address this host is reached at from others. Returns
        transport → address; raises TransportError.
        """
        addresses = self._addresses
        if SHARED_MEMORY in edges.values() and self._shm is None:
            from thalweg.transports.shm.listener import ShmListener

            name = f"thalweg-{os.getpid()}-{self.name}-{secrets.token_hex(4)}"
            self._shm = ShmListener(name, self._token, self._accepted, self._position)
            addresses[SHARED_MEMORY] = name
        if GRPC in edges.values() and self._grpc is None:
            from thalweg.transports.grpc.listener import GrpcListener

            self._grpc = GrpcListener(self._token, self._accepted, _certificates(certificates), self._position)
            host = address or own_address()
            addresses[GRPC] = f"{host}:{await self._grpc.start(f'{host}:0')}"
        for edge, transport in edges.items():
            listener = self._shm if transport == SHARED_MEMORY else self._grpc
            assert listener is not None
            listener.expect(edge, self._windows[edge])
        return addresses

    async def connect(self, routes: Routes, certificates: list[bytes] | None) -> None:
        """Connect outgoing edges and wait for the incoming ones. Raises TransportError."""
        await self.relink(routes, certificates)
        try:
            if self._missing:
                async with asyncio.timeout(CONNECT_S):
                    await self._complete.wait()
        except TimeoutError:
            raise TransportError(f"no peer connected {', '.join(sorted(self._missing))} within {CONNECT_S} s") from None

    async def relink(self, routes: Routes, certificates: list[bytes] | None) -> None:
        """Connect outgoing edges, in the place of links that were lost. Raises TransportError."""
        for edge, (transport, address, generation) in routes.items():
            outlet = self.worker.outlets[edge]
            if transport == SHARED_MEMORY:
                from thalweg.transports.shm.sender import connect

                outlet.attach(await connect(address, edge, self._token, generation=generation))
            else:
                from thalweg.transports.grpc.sender import GrpcSender

                certs = _certificates(certificates)
                sender = GrpcSender(address, edge, self._token, certs, generation=generation)
                try:
                    await sender.connected()
                except BaseException:
                    sender.close()
                    raise
                self._senders = [sender, *(other for other in self._senders if not other.closed)]
                outlet.attach(sender)

    async def give_up(self, edges: Sequence[str], reason: str) -> None:
        """The worker at the other end of these edges will not come back."""
        for edge in edges:
            bridge = self.worker.outlets.get(edge) or self.worker.inlets[edge]
            bridge.give_up(reason)

    async def restore(self, state: bytes | None, watched: bool, set_aside: Sequence[Sequence[Any]]) -> None:
        """Go on from a checkpoint of an earlier incarnation, if there is one. Raises ThalwegError.

        `watched`: say what is taken in hand. `set_aside`: stage, stream and number of packets to be left out.
        """
        if state is not None:
            restore_checkpoint(self.worker, state)
        self.worker.set_aside = {(stage, stream, number) for stage, stream, number in set_aside}
        if watched:
            self._pulse.watch()

    async def beat(self, stored: int) -> Beat:
        """See `Heartbeat.beat`."""
        return await self._pulse.beat(stored)

    async def open(self) -> None:
        """Open the stages. Raises StartError."""
        await self.worker.open()

    async def run(self) -> Outcome:
        """Run to the end of every stream here."""
        await self.worker.run()
        return outcome_of(self.worker)

    async def configure(self, stage: str, settings: Mapping[str, object]) -> None:
        """See `Worker.configure`. Raises StageError."""
        self.worker.configure(stage, settings)

    async def remembered(self) -> Memory:
        """What of a conversation another host could go on with."""
        return memory_of(self.worker)

    async def recall(self, memory: Memory, heard: Mapping[str, Any] | None) -> None:
        """Go on with a conversation of another host: see `recall_memory`."""
        recall_memory(self.worker, memory, heard)

    def kill(self, reason: str) -> None:
        """It lives and dies with this process: nothing happens."""

    async def close(self) -> None:
        """Hang up everywhere, and close the stages where `run` did not. Idempotent."""
        if not self.worker.closed:  # it was opened and never ran, since another host could not be
            self.worker.abandon()
            await self.worker.close()
        self.worker.hang_up()
        for sender in self._senders:
            sender.close()
            await sender.wait_closed()
        if self._shm is not None:
            self._shm.close()
        if self._grpc is not None:
            await self._grpc.stop()

    async def stats(self) -> WorkerStats:
        """What is going on here."""
        return stats_of(self.worker)

    def stop(self) -> None:
        """End the sources here."""
        self.worker.stop()

    def abandon(self) -> None:
        """Give up what is under way."""
        self.worker.abandon()

    def _position(self, edge: str) -> tuple[int, int]:
        inlet = self.worker.inlets[edge]
        return inlet.next_seq, inlet.settled

    def _accepted(self, edge: str, receiver: Receiver) -> None:
        self.worker.inlets[edge].attach(receiver)
        self._missing.discard(edge)
        if not self._missing:
            self._complete.set()


def make_worker(name: str, spec: Spec, trace: Trace | None = None) -> Worker:
    """The worker that hosts what the plan of `spec` gives to `name`. Raises StartError."""
    plan = spec.plan.workers[name]
    return Worker(
        spec.deployed,
        hosted=plan.stages,
        edges=[edge.name for edge in spec.plan.edges.values() if name in (edge.source, edge.target)],
        trace=trace,
        returning=[e.name for e in spec.plan.edges.values() if spec.plan.workers[e.target].restart.may_return],
        returns=plan.restart.may_return,
        name=name,
        replica=plan.replica,
        turns=KEPT_STAYING if spec.plan.stays else KEPT,
    )


def load_bundle(bundle: Bundle) -> Spec:
    """Read the pipeline file in a bundle. Raises SpecError, where something it names is not installed here."""
    sys.path += [path for path in bundle.paths if path not in sys.path and Path(path).is_dir()]
    spec = load_spec(
        bundle.files[bundle.main],
        bundle.main,
        settings=bundle.settings,
        read_file=lambda file, including: _bundled(bundle, file, including),
    )
    return replace(spec, plan=spec.plan.staying()) if bundle.stays else spec


def window_of(connection: Connection) -> int:
    """Packets that may be under way on an edge: one of `latest`, since any more would only grow old on the way."""
    return 1 if connection.policy is Policy.LATEST else min(WINDOW_AT_MOST, connection.capacity)


def _bundled(bundle: Bundle, file: str, including: str) -> tuple[str, str]:
    path = str(Path(including).parent / file)
    return path, bundle.files[path]


def _certificates(texts: list[bytes] | None) -> Certificates | None:
    return None if texts is None else Certificates(*texts)


def own_address() -> str:
    """The address that this host's default route uses, or loopback where there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address of no host; nothing is sent
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def choose_transport(planned: str, source_host: str, target_host: str) -> str:
    """What carries an edge between these two hosts."""
    if planned in (SHARED_MEMORY, GRPC):
        return planned
    return SHARED_MEMORY if source_host == target_host else GRPC
