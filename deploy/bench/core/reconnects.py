"""The link between two workers is cut every second for minutes, and the consumer is slow: is anything lost?

Numbers go from here to a worker over gRPC, and back, by two chains: the edges of one are `block` and no more, those
of the other `at_least_once`, to a worker that may be started again. In between they are taken slowly, every hundredth
after longer than it takes to cut the link twice. All edges go through links that are cut together at any moment.
`lost`, `doubled`, `miscounted`: numbers. `relinked`: edges that were given up on and got another link.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from thalweg.deploy.bench.core.cutting import Link
from thalweg.deploy.bench.core.failover import deploy, local_stage
from thalweg.deploy.bench.result import OURS, Result
from thalweg.deploy.cluster.deployment import Deployment
from thalweg.pipeline.file.plan import GRPC

CUT_S = 1.0
CHAINS = ("block", "at_least_once")
_STAGES = "thalweg.deploy.bench.core.counting"
_PIPELINE = f"""
stages:
  count_block: {{use: "{_STAGES}:Count", gap_ms: 0}}
  count_at_least_once: {{use: "{_STAGES}:Count", gap_ms: 0}}
  slow_block: {{use: "{_STAGES}:Dawdle"}}
  slow_at_least_once: {{use: "{_STAGES}:Dawdle"}}
  check_block: {{use: "{_STAGES}:Check"}}
  check_at_least_once: {{use: "{_STAGES}:Check"}}
connections:
  - {{from: count_block, to: slow_block, policy: block, delivery: newest}}
  - {{from: slow_block, to: check_block, policy: block, delivery: newest}}
  - count_at_least_once -> slow_at_least_once -> check_at_least_once
workers:
  a: {{launcher: subprocess}}
  b: {{launcher: subprocess, restart: on_failure}}
placement: {{slow_block: a, slow_at_least_once: b}}
transports:
  count_block.text -> slow_block.text: grpc
  slow_block.text -> check_block.text: grpc
  count_at_least_once.text -> slow_at_least_once.text: grpc
  slow_at_least_once.text -> check_at_least_once.text: grpc
"""


async def measure_reconnects(result: Result, seconds: float) -> None:
    """Fill in the rows."""
    deployment = deploy(_PIPELINE)
    links = _put_between(deployment)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(deployment.run())
        await deployment.ready.wait()
        first = dict(deployment.links.generations)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.sleep(CUT_S)
            for link in links:
                link.cut()
        deployment.stop()
    for link in links:
        link.close()
    relinked = sum(deployment.links.generations.values()) - sum(first.values())
    for chain in CHAINS:
        sent, check = local_stage(deployment, f"count_{chain}").sent, local_stage(deployment, f"check_{chain}")
        missing = max(0, sent - 1 - check.last)
        faults = {"lost": check.lost + missing, "doubled": check.doubled, "miscounted": check.miscounted}
        result.add(chain, OURS, check.last + 1, "packets", sent=sent, **faults)
    result.add("all", OURS, 1, "", cuts=sum(link.cuts for link in links), relinked=relinked)
    if running.result().problem_count:
        messages = dict.fromkeys(problem.message for problem in running.result().problems)
        result.notes.append("; ".join(messages))


def _put_between(deployment: Deployment) -> list[Link]:
    """Have every worker's gRPC address lead through a link of ours."""
    links: list[Link] = []

    def led(host: Any) -> Any:
        listen = host.listen

        async def listening(edges: Mapping[str, str], address: str, certificates: Any) -> dict[str, str]:
            addresses = dict(await listen(edges, address, certificates))
            if GRPC in addresses:
                there, _, port = addresses[GRPC].rpartition(":")
                links.append(Link(there, int(port)))
                addresses[GRPC] = await links[-1].open()
            return addresses

        return listening

    for host in deployment.hosts.values():
        host.listen = led(host)  # type: ignore[method-assign]
    return links
