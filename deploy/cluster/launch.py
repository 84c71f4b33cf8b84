"""How a host elsewhere is made: by a launcher, found by the name that a pipeline file uses.

A launcher is a function in the entry point group `thalweg.launchers`, ours and third-party ones alike:

    def launch(order: Order) -> Carrier

It starts nothing; the carrier does. What a worker of the file says beside the keys that all workers have is in
`order.worker.options`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points

from thalweg.deploy.cluster.host import Host
from thalweg.deploy.cluster.order import Order
from thalweg.deploy.cluster.remote import Carrier, RemoteHost
from thalweg.deploy.cluster.shared import shared_carrier
from thalweg.deploy.cluster.subprocess_host import Child, SubprocessCarrier
from thalweg.pipeline.file.plan import LAUNCHER_GROUP, SUBPROCESS

AnyHost = Host | RemoteHost


def launch(order: Order, child: Child | None = None) -> RemoteHost:
    """Make a host elsewhere; nothing is started yet. `child`: a process for a subprocess."""
    worker = order.worker
    if worker.shared:
        return RemoteHost(worker.name, shared_carrier(order))
    if worker.launcher == SUBPROCESS:
        carrier = SubprocessCarrier(worker.name, order.bundle, order.on_problem, order.log, child)
        return RemoteHost(worker.name, carrier)
    return RemoteHost(worker.name, _launcher(worker.launcher)(order))


@cache
def _launcher(name: str) -> Callable[[Order], Carrier]:
    (point,) = entry_points(group=LAUNCHER_GROUP, name=name)
    found: Callable[[Order], Carrier] = point.load()
    return found
