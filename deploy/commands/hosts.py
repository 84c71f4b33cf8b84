"""`thalweg serve hosts` and `serve drain HOST`: what a front tells of its hosts, and emptying one of them."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from rich.table import Table

from thalweg.deploy.console import Console
from thalweg.deploy.server.hosts.record import NAME
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.text import printable
from thalweg.stages.io.terminal import say, say_json
from thalweg.transports.webrtc.signalling import Signalling, TalkError

LOOK_S = 0.5
MARGIN_S = 10.0
LONGEST_S = 86_400.0
LARGEST = 1e12
COLUMNS = ("name", "state", "conversations", "limit", "used", "late", "pid", "zone", "version", "why")
LEFT = ("name", "state", "conversations", "zone", "version", "why")


class DrainError(ThalwegError):
    """A host that could not be emptied."""


class HostsError(ThalwegError):
    """Hosts or conversations that a server does not list."""


def list_hosts(url: str, token: str, as_json: bool, *, insecure: bool = False) -> None:
    """Print one row for each host of a server, and a sum. Raises HostsError, TalkError."""
    hosts = listed_by(Signalling(url, token, insecure=insecure), "hosts")
    if as_json:
        say_json(hosts, indent=2)
        return
    if not hosts:
        say("this server has no hosts: its conversations are in its own process")
        return
    table = Table(box=None, pad_edge=False)
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in LEFT else "right")
    for host in hosts:
        table.add_row(*(_shown(host, column) for column in COLUMNS))
    held = [_count(host) for host in hosts]
    limits = [host.get("limit") for host in hosts if host.get("state") != "failed"]
    learned = [round(number(limit)) for limit in limits if isinstance(limit, int)]
    most = f" of {sum(learned)}" if len(learned) == len(limits) else ""
    console = Console()
    console.print(table)
    console.say(f"{len(hosts)} hosts, {sum(held)} conversations{most}")


def listed_by(server: Signalling, what: str) -> list[dict[str, Any]]:
    """What a server lists for its operator, `hosts` or `sessions`. Raises HostsError, and TalkError where it or what is
    before it is busy or does not answer.
    """
    status, found = asyncio.run(server.ask("GET", f"/{what}"))
    listed = found.get(what)
    if status == 200 and isinstance(listed, list) and all(isinstance(one, dict) for one in listed):
        return listed
    said = _refusal(status, found)
    raise TalkError("unreachable", said) if status == 429 or status >= 500 else HostsError(said)


def number(value: object) -> float:
    """A number that a server tells; 0 for what is none, is not finite or beyond `LARGEST`."""
    told = isinstance(value, int | float) and abs(value) <= LARGEST  # which NaN is not
    return float(value) if told and isinstance(value, int | float) else 0.0


def _refusal(status: int, found: dict[str, Any]) -> str:
    return printable(found.get("message") or f"the server refused with {status}", 300)


def _count(host: dict[str, Any]) -> int:
    held = host.get("conversations")
    return round(sum(map(number, held.values()))) if isinstance(held, dict) else 0


def _shown(host: dict[str, Any], column: str) -> str:
    """One cell. `used`: how much of its processors; `late`: its event loop, at most."""
    value = host.get("late_s" if column == "late" else column)
    if column == "conversations":
        states = value if isinstance(value, dict) else {}
        return printable(", ".join(f"{count} {state}" for state, count in states.items() if count) or "–", 100)
    if value is None or value == "":
        return "–" if column != "why" else ""
    if column in ("used", "late"):
        return f"{100 * number(value):.0f} %" if column == "used" else f"{1e3 * number(value):.0f} ms"
    return printable(str(value), 100)


def drain_host(name: str, url: str, token: str, *, wait: bool, insecure: bool = False) -> int:
    """Have it emptied, and with `wait` until it is. Raises DrainError, TalkError. Returns the exit code."""
    if not re.fullmatch(NAME, name):
        raise DrainError(f"{printable(name, 60)!r} names no conversation host: `GET /hosts` of the server lists them")
    return asyncio.run(_drain(Signalling(url, token, insecure=insecure), name, wait))


async def _drain(server: Signalling, name: str, wait: bool) -> int:
    status, found = await server.ask("POST", f"/hosts/{name}/drain")
    if status != 200:
        refused = _refusal(status, found)
        if status == 403:
            refused = f"{refused.rstrip('.')}: give it by --admin-token-file, or in THALWEG_ADMIN_TOKEN"
        raise DrainError(refused)
    within_s, held = min(number(found.get("within_s")), LONGEST_S), round(number(found.get("held")))
    say(f"{name} takes no new conversations; {held} conversations move within {within_s:g} s", err=True)
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
    return _count(next((host for host in listed if isinstance(host, dict) and host.get("name") == name), {}))
