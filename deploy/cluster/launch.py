"""How a host elsewhere is made: by a launcher, found by the name that a pipeline file uses.

A launcher is a function in the entry point group `thalweg.launchers`, ours and third-party ones alike:

    def launch(order: Order) -> Carrier

It starts nothing; the carrier does. What a worker of the file says beside the keys that all workers have is in
`order.worker.options`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from thalweg.deploy.cluster.host import Bundle, Host
from thalweg.deploy.cluster.order import Order
from thalweg.deploy.cluster.remote import Carrier, RemoteHost
from thalweg.deploy.cluster.shared import shared_carrier
from thalweg.deploy.cluster.subprocess_host import Child, SubprocessCarrier
from thalweg.deploy.errors import Problem
from thalweg.pipeline.file.plan import LAUNCHER_GROUP, SUBPROCESS, WorkerPlan

AnyHost = Host | RemoteHost


def launch(
    worker: WorkerPlan,
    bundle: Bundle,
    on_problem: Callable[[Problem], None],
    logs: Path | None,
    child: Child | None = None,
    modules: Sequence[str] = (),
) -> RemoteHost:
    """Make a host elsewhere; nothing is started yet. `logs`: see `Deployment`. `child`: a process for a subprocess.

    `modules`: see `Order`.
    """
    log = None if logs is None else logs / f"{worker.name}.log"
    order = Order(worker=worker, bundle=bundle, on_problem=on_problem, log=log, modules=tuple(modules))
    if worker.shared:
        return RemoteHost(worker.name, shared_carrier(order))
    if worker.launcher == SUBPROCESS:
        return RemoteHost(worker.name, SubprocessCarrier(worker.name, bundle, on_problem, log, child))
    return RemoteHost(worker.name, _launcher(worker.launcher)(order))


@cache
def _launcher(name: str) -> Callable[[Order], Carrier]:
    (point,) = entry_points(group=LAUNCHER_GROUP, name=name)
    found: Callable[[Order], Carrier] = point.load()
    return found
