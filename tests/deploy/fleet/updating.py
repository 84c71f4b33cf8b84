"""One rollout as the agent does it, without the agent: fetch, try, commit, and prove at the next start."""

from __future__ import annotations

from typing import Any

from thalweg.deploy.fleet.node.releases import Releases
from thalweg.pipeline.fleet.rollout import Do, Phase, Record, RolloutEvent, follow


def carry_out(releases: Releases, record: Record, client: Any) -> Record:
    """The record afterwards; it is saved before each step."""

    def hear(event: RolloutEvent, generation: int = 0) -> None:
        nonlocal record
        record, do = follow(record, event, generation=generation)
        releases.save(record)
        if do is Do.POINT:
            releases.point(record.candidate)
            hear(RolloutEvent.COMMITTED)
        if record.phase is Phase.RESTING:
            releases.tidy(record)

    manifest, sealed = releases.ask(client)
    hear(RolloutEvent.WANTED, manifest.generation)
    releases.fetch(client, manifest, sealed)
    for event in (
        RolloutEvent.FETCHED,
        RolloutEvent.ALLOWED,
        RolloutEvent.PASSED,
        RolloutEvent.BOOTED,
        RolloutEvent.PASSED,
    ):
        hear(event)
    assert (record.current, record.phase) == (manifest.generation, Phase.RESTING)
    return record
