"""`thalweg serve drain HOST`: empty a conversation host of a server that runs, by asking its front."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from thalweg.deploy.server.hosts.record import NAME
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.text import printable
from thalweg.stages.io.terminal import say
from thalweg.transports.webrtc.signalling import Signalling

LOOK_S = 0.5
MARGIN_S = 10.0


class DrainError(ThalwegError):
    """A host that could not be emptied."""


def drain_host(name: str, url: str, token: str, *, wait: bool, insecure: bool = False) -> int:
    """Have it emptied, and with `wait` until it is. Raises DrainError, TalkError. Returns the exit code."""
    if not re.fullmatch(NAME, name):
        raise DrainError(f"{printable(name, 60)!r} names no conversation host: `GET /hosts` of the server lists them")
    return asyncio.run(_drain(Signalling(url, token, insecure=insecure), name, wait))


async def _drain(server: Signalling, name: str, wait: bool) -> int:
    status, found = await server.ask("POST", f"/hosts/{name}/drain")
    if status != 200:
        refused = printable(found.get("message") or f"the server refused with {status}", 300)
        if status == 403:
            refused = f"{refused.rstrip('.')}: give it by --admin-token-file, or in THALWEG_ADMIN_TOKEN"
        raise DrainError(refused)
    within_s = float(found.get("within_s", 0.0))
    say(f"{name} takes no new conversations; {found.get('held', 0)} conversations move within {within_s:g} s", err=True)
    if not wait:
        return 0
    loop = asyncio.get_running_loop()
    until_s = loop.time() + within_s + MARGIN_S
    while loop.time() < until_s:
        left = _held(await server.ask("GET", "/hosts"), name)
        if not left:
            say(f"{name} is empty", err=True)
            return 0
        await asyncio.sleep(LOOK_S)
    raise DrainError(f"{left} conversations are still at {name}: the log of the server says more")


def _held(answer: tuple[int, dict[str, Any]], name: str) -> int:
    """How many conversations a host has; 0 for one that is gone."""
    hosts = answer[1].get("hosts")
    listed = hosts if isinstance(hosts, list) else []
    found = next((host for host in listed if isinstance(host, dict) and host.get("name") == name), {})
    held = found.get("conversations")
    return sum(held.values()) if isinstance(held, dict) else 0
