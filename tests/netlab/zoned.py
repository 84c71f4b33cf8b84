"""Conversation hosts and a front of theirs, each in a namespace of its own, without Ray.

`python -m tests.netlab.zoned host FOLDER NAME ADDRESS ZONE` and `… front FOLDER ADDRESS NETWORK=ZONE …`, which serves
on port 8080 once hosts have written themselves down in FOLDER.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

from tests.deploy.server.hosts.housing import HOUSED, bundle_of, front_inside
from thalweg.deploy.bench.dialogue.scripted import pipeline
from thalweg.deploy.server.hosts.host import ConversationHost, HostOrder, settings_for_hosts
from thalweg.deploy.server.hosts.zones import zone_of_network

PORT = 8080


async def host(folder: Path, name: str, address: str, zone: str) -> None:
    """Serve until killed."""
    settings = settings_for_hosts(HOUSED)
    plain = bundle_of(pipeline()).plain()
    order = HostOrder(name=name, bundle=plain, where=address, settings=settings, zone=zone)
    await ConversationHost(order).run(lambda record: record.keep(folder))


async def front(folder: Path, address: str, *zones: str) -> None:
    """Serve until killed."""
    networks = tuple(zone_of_network(text) for text in zones)
    settings = replace(HOUSED, host=address, port=PORT, zone="nowhere", zones=networks)
    async with front_inside(folder, settings, pipeline()):
        await asyncio.Event().wait()


if __name__ == "__main__":
    which, where, *more = sys.argv[1:]
    asyncio.run({"host": host, "front": front}[which](Path(where), *more))
