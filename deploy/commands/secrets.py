"""Options that hold secrets: by file, by environment or, with a warning, by argument, which `ps` shows to all users."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from thalweg.deploy.door.tokens import TokenError, secrets_of, tokens_of
from thalweg.deploy.ops.keeping.operating import FILE
from thalweg.stages.io.terminal import say

if TYPE_CHECKING:
    from thalweg.deploy.server.settings import IceServer

Command = Callable[..., Any]


def _warned(ctx: click.Context, option: click.Parameter, value: Any) -> Any:
    """The value; a secret among the arguments is taken, and it is said what is wrong with that. One in the environment
    is taken out of it, also where the arguments go before it: processes that are started need not have it.
    """
    os.environ.pop(str(option.envvar), None)
    values = value if isinstance(value, tuple) else (value,)
    secret = [text for text in values if option.name != "ice" or "@" in text]
    if secret and ctx.get_parameter_source(str(option.name)) is ParameterSource.COMMANDLINE:
        name = option.opts[0]
        say(
            f"{name}: every user of this machine can read the arguments of a command; give secrets with {name}-file or "
            f"in ${option.envvar}. A later version will not take them here",
            err=True,
        )
    return value


def _secret(name: str, variable: str, about: str, in_file: str, *, many: bool = False) -> Callable[[Command], Command]:
    """`--name` and `--name-file`."""

    def both(command: Command) -> Command:
        add_file = click.option(
            f"--{name}-file", type=FILE, envvar=f"{variable}_FILE", help=f"{in_file}  [${variable}_FILE]"
        )
        add = click.option(
            f"--{name}",
            default=() if many else "",
            multiple=many,
            envvar=variable,
            callback=_warned,
            metavar="URL" if many else None,
            help=f"{about}  [${variable}]",
        )
        return add(add_file(command))

    return both


_LISTED = "File of several tokens with dates; read again when it changes."
TOKEN = _secret("token", "THALWEG_TOKEN", "Token that clients must present.", _LISTED)
ADMIN_TOKEN = _secret(
    "admin-token", "THALWEG_ADMIN_TOKEN", "Token of the operator: /sessions, /hosts and /metrics.", _LISTED
)
INSECURE = click.option(
    "--insecure", is_flag=True, help="Verify no certificate; refused with a token for another machine."
)
KNOWN_TOKEN = _secret("token", "THALWEG_TOKEN", "Token of the server.", "File that holds the token.")
ICE = _secret(
    "ice",
    "THALWEG_ICE",
    "stun:HOST or turn:USER:PASSWORD@HOST[:PORT]; with a password rather in --ice-file. Repeatable.",
    "File with one such server per line.",
    many=True,
)


def known_token(token: str, path: Path | None, now_s: float | None = None) -> str:
    """What a client says: the token that was given, or the first of the file that is good. Raises TokenError."""
    if token or path is None:
        return token
    found = tokens_of(path)
    good = [each.secret for each in found if each.good(time.time() if now_s is None else now_s)]
    if not good:
        raise TokenError(f"all {len(found)} tokens of {path} have ended" if found else f"{path} lists no token")
    return good[0]


def ice_servers(given: tuple[str, ...], path: Path | None) -> tuple[IceServer, ...]:
    """The STUN and TURN servers that were given, and those of the file. Raises TokenError, SettingsError."""
    from thalweg.deploy.server.settings import parse_ice

    return tuple(parse_ice(text) for text in (*given, *(secrets_of(path) if path is not None else ())))
