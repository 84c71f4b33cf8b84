"""`thalweg serve sessions`: the conversations of all hosts of a server, once or as they go on."""

from __future__ import annotations

import time
from typing import Any

from rich.live import Live
from rich.table import Table

from thalweg.deploy.commands.hosts import listed_by, number
from thalweg.deploy.console import Console
from thalweg.pipeline.text import printable
from thalweg.stages.io.terminal import is_terminal, say_json
from thalweg.transports.webrtc.signalling import Signalling, TalkError

REFRESH_S = 1.0
LEFT = ("host", "session", "state", "floor")
COLUMNS = (*LEFT, "age", "turns", "last", "p95", "problems", "reconnects")
_KEYS = {"session": "id", "age": "age_s", "last": "played_ms", "p95": "played_p95_ms"}
Session = dict[str, Any]


def list_sessions(
    url: str, token: str, *, host: str = "", as_json: bool = False, watch: bool = False, insecure: bool = False
) -> None:
    """Print one row for each conversation; with `watch` again each second, until Ctrl-C.

    Raises HostsError, TalkError.
    """
    server = Signalling(url, token, insecure=insecure)
    found = _asked(server, host)
    if as_json:
        say_json(found, indent=2)
        return
    console = Console()
    if not watch or not is_terminal():
        console.print(table_of(found))
        console.say(sum_of(found))
        return
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(table_of(found, console.size.height - 2), refresh=True)
                time.sleep(REFRESH_S)
                found = _again(server, host, found)
    except KeyboardInterrupt:
        return


def table_of(sessions: list[Session], most: int = 0) -> Table:
    """The newest at the end. `most`: rows that there is room for; 0: any number."""
    table = Table(box=None, pad_edge=False, caption=sum_of(sessions) if most else None, caption_justify="left")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in LEFT else "right")
    rows = sorted(sessions, key=lambda one: (str(one.get("host", "")), -number(one.get("age_s"))))
    for one in rows[: most or None]:
        table.add_row(*(_shown(one, column) for column in COLUMNS))
    return table


def sum_of(sessions: list[Session]) -> str:
    """All of them in a line."""
    hosts = {str(one["host"]) for one in sessions if one.get("host")}
    talking = sum(one.get("state") == "talking" for one in sessions)
    return f"{len(sessions)} conversations" + (f" on {len(hosts)} hosts" if hosts else "") + f", {talking} talking"


def _asked(server: Signalling, host: str) -> list[Session]:
    return [one for one in listed_by(server, "sessions") if not host or one.get("host") == host]


def _again(server: Signalling, host: str, before: list[Session]) -> list[Session]:
    """As they are now, or as they were where the server does not answer just now."""
    try:
        return _asked(server, host)
    except TalkError:
        return before


def _shown(one: Session, column: str) -> str:
    """One cell. `last`, `p95`: from the end of speech to the first sound of the answer."""
    value = one.get(_KEYS.get(column, column))
    if value is None or value == "":
        return "–"
    if column == "age":
        return f"{number(value):.0f} s"
    if column in ("last", "p95"):
        return f"{number(value):.0f} ms"
    return printable(str(value), 100)
