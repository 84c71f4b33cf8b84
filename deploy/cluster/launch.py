"""How a host is made: in this process, in a subprocess, as a Ray actor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from thalweg.deploy.cluster.host import Bundle, Host
from thalweg.deploy.cluster.remote import RemoteHost
from thalweg.deploy.cluster.subprocess_host import Child, SubprocessCarrier
from thalweg.deploy.ops.observing.outcome import Problem
from thalweg.pipeline.file.plan import WorkerPlan

AnyHost = Host | RemoteHost


def launch(
    worker: WorkerPlan,
    bundle: Bundle,
    on_problem: Callable[[Problem], None],
    logs: Path | None,
    child: Child | None = None,
) -> RemoteHost:
    """Make a host elsewhere; nothing is started yet. `logs`: see `Deployment`. `child`: a process for a subprocess."""
    if worker.launcher == "ray":
        from thalweg.deploy.cluster.ray_host import RayCarrier

        return RemoteHost(worker.name, RayCarrier(worker, bundle, on_problem))
    log = None if logs is None else logs / f"{worker.name}.log"
    return RemoteHost(worker.name, SubprocessCarrier(worker.name, bundle, on_problem, log, child))
