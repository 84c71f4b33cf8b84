"""The links between the workers of a deployment: made at the start, after a restart, and when one was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

from thalweg.deploy.cluster.host import Routes, choose_transport
from thalweg.deploy.cluster.launch import AnyHost
from thalweg.deploy.cluster.remote import WorkerLost
from thalweg.deploy.errors import StartError
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.file.plan import GRPC, MEMORY, SHARED_MEMORY, Plan
from thalweg.transports.grpc.tls import make_certificates
from thalweg.transports.shm.support import missing

CONTROL_S = 10.0
MEND_S = 0.5


def check_transports(plan: Plan) -> None:
    """Raises StartError where the file asks for shared memory on a system that has none."""
    edge = next((edge for edge in plan.edges.values() if edge.transport == SHARED_MEMORY), None)
    if edge is not None and (lacking := missing()):
        raise StartError(
            f"edge {edge.name} is to use shared memory, which needs Linux ({lacking} is not here): "
            "take it out of `transports`, and gRPC carries it"
        )


class Links:
    """Which worker is where and reached how. `hosts`: the deployment's, as they are at any moment; `ended`: whether a
    worker has done its part, and cannot do it again.

    `places`: worker → host; `kinds`: edge between workers → transport; `linked`: the workers that live and have links;
    `unlinked`: edges that have lost theirs. `lock` is held while links are made.
    """

    def __init__(self, plan: Plan, hosts: Mapping[str, AnyHost], ended: Callable[[str], bool]) -> None:
        self._plan = plan
        self._hosts = hosts
        self._ended = ended
        self.places: dict[str, str] = {}
        self.kinds: dict[str, str] = {}
        self.linked: set[str] = set()
        self.unlinked: set[str] = set()
        self.lock = asyncio.Lock()
        self.certificates: list[bytes] | None = None
        self._addresses: dict[str, dict[str, str]] = {name: {} for name in plan.workers}
        self.generations = dict.fromkeys(plan.edges, 0)
        self._made_s: dict[str, float] = {}

    def lost(self, edges: Iterable[str], asked_s: float) -> None:
        """A worker that was asked at `asked_s` (of the loop's clock) says that these have no link.

        What has been linked since is left alone: a link that holds must not be replaced, since what is on its way by it
        and in no checkpoint any more would be gone.
        """
        self.unlinked.update(edge for edge in edges if self._made_s.get(edge, -1.0) < asked_s)

    def on_one_machine(self, one: str, other: str) -> bool:
        """Whether two workers share a boot, and so a monotonic clock; see `host_identity`."""
        places = [self.places.get(name, name).partition("/")[0] for name in (one, other)]
        return places[0] == places[1]

    async def relink(self, edge: str) -> None:
        """Give an edge a new link; where that fails it is tried again later, while both its ends live."""
        self.unlinked.add(edge)
        source, target = self._plan.edges[edge].source, self._plan.edges[edge].target
        if self.kinds[edge] not in self._addresses[target]:
            return  # it has not said where it listens for this kind, and will be asked when it is started again
        try:
            async with asyncio.timeout(CONTROL_S):
                await self._hosts[source].relink({edge: self._route(edge)}, self.certificates)
            self._made_s[edge] = asyncio.get_running_loop().time()
            self.unlinked.discard(edge)
        except WorkerLost:
            if self._ended(source):  # it had done its part, and cannot do it again
                self.unlinked.discard(edge)
                await self.give_up(target, edge, f"worker {source} had ended, and is gone")
        except (ThalwegError, TimeoutError):
            return

    async def give_up(self, name: str, edge: str, reason: str) -> None:
        """Tell a worker that the one at the other end of an edge will not come back."""
        try:
            async with asyncio.timeout(CONTROL_S):
                await self._hosts[name].give_up([edge], reason)
        except (ThalwegError, TimeoutError):
            return  # it is dead too, or will be told when it is started again

    async def mend(self) -> None:
        """Link again what was lost between two workers that live."""
        while True:
            await asyncio.sleep(MEND_S)
            for edge in list(self.unlinked):
                async with self.lock:  # its last holder may have linked this edge, or lost one of its ends
                    ends = {self._plan.edges[edge].source, self._plan.edges[edge].target}
                    if edge in self.unlinked and ends <= self.linked:
                        await self.relink(edge)

    async def listen(self, host: AnyHost) -> None:
        """Have a host listen for the producers of its edges, where its neighbours can reach it.

        Raises WorkerLost where it does not within `CONTROL_S`: a restart holds `lock` meanwhile.
        """
        edges = {edge: kind for edge, kind in self.kinds.items() if self._plan.edges[edge].target == host.name}
        if GRPC in self.kinds.values() and self.certificates is None:
            made = make_certificates()
            self.certificates = [made.authority, made.certificate, made.key]
        bind = "127.0.0.1" if len(set(self.places.values())) == 1 else ""
        try:
            async with asyncio.timeout(CONTROL_S):
                self._addresses[host.name] = await host.listen(edges, bind, self.certificates)
        except TimeoutError:
            raise WorkerLost(f"worker {host.name} did not listen for its neighbours within {CONTROL_S:g} s") from None

    def transports(self) -> dict[str, str]:
        """Edge → transport, of all edges between two workers."""
        return {
            edge.name: choose_transport(edge.transport, self.places[edge.source], self.places[edge.target])
            for edge in self._plan.edges.values()
            if edge.transport != MEMORY
        }

    def routes(self, source: str) -> Routes:
        """What a worker must know to connect its outgoing edges."""
        return {edge: self._route(edge) for edge in self.kinds if self._plan.edges[edge].source == source}

    def _route(self, edge: str) -> tuple[str, str, int]:
        self.generations[edge] += 1
        kind = self.kinds[edge]
        return kind, self._addresses[self._plan.edges[edge].target][kind], self.generations[edge]
