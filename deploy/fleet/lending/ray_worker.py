"""What a lent worker asks of a Ray cluster, as the lender tells it to `on_ray.py`. Imports nothing of Ray."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from thalweg.deploy.fleet.lending.process import Program

RAY_SECRETS = frozenset({"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_TLS_SERVER_KEY"})
"""By which a process joins a cluster; the last is the path of a file."""


@dataclass(frozen=True, slots=True)
class RayWorker:
    """What a lent worker asks of the cluster. `folder`: its working directory, on whatever node it comes to;
    `memory_bytes`: as of `worker_here`.
    """

    folder: str
    memory_bytes: int = -1
    cpus: float = 0.0
    gpus: float = 0.0
    resources: dict[str, float] = field(default_factory=dict)

    def program(self) -> Program:
        """What a lender runs for each lease."""
        return Program("thalweg.deploy.fleet.lending.on_ray", (json.dumps(asdict(self)),), RAY_SECRETS)
