"""`thalweg serve`, `thalweg serve hosts`, `sessions` and `drain`: their options."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from thalweg.deploy.commands import secrets
from thalweg.deploy.ops.keeping.operating import FILE, PIPELINE, SET, settings_of

_OF_HOSTS = {"hosts": "--hosts", "zone": "--zone", "zones": "--zone-of", "address": "--address"}
URL = click.option("--url", default="http://localhost:8080", show_default=True, help="URL of the server.")


@click.command("drain")
@click.argument("host")
@URL
@secrets.ADMIN_TOKEN
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait until no conversation is left there.")
@secrets.INSECURE
def drain(host: str, url: str, admin_token: str, admin_token_file: Path | None, wait: bool, insecure: bool) -> None:
    """Drain a conversation host of a running server: it takes no new conversations, and those on it move elsewhere."""
    from thalweg.deploy.commands.hosts import drain_host

    token = secrets.known_token(admin_token, admin_token_file)
    sys.exit(drain_host(host, url, token, wait=wait, insecure=insecure))


@click.command("hosts")
@URL
@secrets.ADMIN_TOKEN
@secrets.INSECURE
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def hosts(url: str, admin_token: str, admin_token_file: Path | None, insecure: bool, as_json: bool) -> None:
    """List the conversation hosts of a running server: state, conversations, limit, and how busy they are."""
    from thalweg.deploy.commands.hosts import list_hosts

    list_hosts(url, secrets.known_token(admin_token, admin_token_file), as_json, insecure=insecure)


@click.command("sessions")
@URL
@secrets.ADMIN_TOKEN
@secrets.INSECURE
@click.option("--on", "host", default="", metavar="HOST", help="Only the conversations of this host.")
@click.option("--watch", is_flag=True, help="Show them as they go on, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def sessions(url: str, admin_token: str, admin_token_file: Path | None, **given: Any) -> None:
    """List the conversations of a running server, on all its hosts: turns, state, and how soon each is answered."""
    from thalweg.deploy.commands.sessions import list_sessions

    list_sessions(url, secrets.known_token(admin_token, admin_token_file), **given)


class _Serve(click.Command):
    """`serve FILE`, `serve hosts`, `serve sessions`, and `serve drain HOST`."""

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **more: Any) -> click.Context:
        for command in (drain, hosts, sessions):
            if args[:1] == [str(command.name)]:
                return command.make_context(f"{info_name} {args[0]}", args[1:], *rest, **more)
        return super().make_context(info_name, args, *rest, **more)


@click.command(cls=_Serve)
@click.argument("file", type=PIPELINE)
@SET
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Port to listen on.")
@secrets.TOKEN
@secrets.ADMIN_TOKEN
@click.option(
    "--metrics", default="", metavar="[HOST:]PORT", help="Serve /metrics at [HOST:]PORT, too, without a token."
)
@click.option(
    "--host-name",
    "host_names",
    multiple=True,
    envvar="THALWEG_HOST_NAME",
    help="A host name of this server, as clients use it. Repeatable.  [$THALWEG_HOST_NAME]",
)
@click.option(
    "--trusted-proxy", "proxies", multiple=True, metavar="NETWORK", help="Trust the X-Forwarded-For of this proxy."
)
@click.option("--origin", "origins", multiple=True, help="Another origin whose pages may connect. Repeatable.")
@secrets.ICE
@click.option(
    "--sessions",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Most conversations at once; 0: learned from answer times.",
)
@click.option(
    "--per-address",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="Most conversations per client address.",
)
@click.option(
    "--session-seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=3600.0,
    show_default=True,
    help="Longest conversation, seconds.",
)
@click.option(
    "--resume-seconds",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="How long a client may reconnect, seconds.",
)
@click.option("--certificate", type=FILE, help="TLS certificate chain (PEM); browsers require it except on localhost.")
@click.option("--key", type=FILE, help="Private key of the certificate (PEM).")
@click.option(
    "--drain-seconds",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    help="Timeout for conversations at shutdown, seconds.",
)
@click.option("--on", type=click.Choice(["subprocess", "ray"]), help="Run conversations on hosts, not in this process.")
@click.option(
    "--hosts", type=click.IntRange(1, 64), default=2, show_default=True, help="Number of hosts on this machine."
)
@click.option(
    "--shrink-after",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="MINUTES",
    help="On Ray: start hosts as they are needed, and end those that were empty for so long; 0: one on each node.",
)
@click.option("--zone", default="", help="Zone of this front: people are put on hosts of it, at equal room.")
@click.option(
    "--zone-of",
    "zones",
    multiple=True,
    metavar="NETWORK=ZONE",
    help="Zone of people of this network, before that of the front. Repeatable.",
)
@click.option("--address", default="", help="Address of the Ray cluster; default: RAY_ADDRESS, or the local one.")
def serve(file: Path, pairs: tuple[str, ...], ice: tuple[str, ...], ice_file: Path | None, **given: Any) -> None:
    """Serve a pipeline to browsers: a page to talk on, over WebRTC.

    \b
    thalweg serve voice_chat.yaml                then open http://localhost:8080
    thalweg serve FILE --host 0.0.0.0 --certificate CHAIN --key KEY --token-file TOKENS

    Of a running server, `thalweg serve hosts` lists the conversation hosts, `thalweg serve sessions` the conversations,
    and `thalweg serve drain HOST` drains a host.
    """
    from thalweg.deploy.door.addresses import network_of
    from thalweg.deploy.server.hosts.serve import Placed
    from thalweg.deploy.server.hosts.zones import zone_name, zone_of_network
    from thalweg.deploy.server.serve import serve_file
    from thalweg.deploy.server.settings import ServerSettings

    given["session_s"] = given.pop("session_seconds")
    given["resume_s"] = given.pop("resume_seconds")
    given["drain_s"] = given.pop("drain_seconds")
    given["shrink_s"] = 60.0 * given.pop("shrink_after")
    idle = [option for name, option in _OF_HOSTS.items() if given["on"] is None and _is_said(name)]
    if idle:
        raise click.UsageError(f"{idle[0]} is for --on: without it all conversations run in this process")
    on, hosts, address = (given.pop(name) for name in ("on", "hosts", "address"))
    if given["shrink_s"] and on != "ray":
        raise click.UsageError("--shrink-after is for --on ray: elsewhere there are as many hosts as --hosts says")
    if address and on != "ray":
        raise click.UsageError("--address is for --on ray")
    placed = None if on is None else Placed(on=on, count=hosts, address=address)
    given["zone"] = zone_name(given["zone"])
    given["zones"] = tuple(zone_of_network(text) for text in given["zones"])
    given["proxies"] = tuple(network_of(text) for text in given["proxies"])
    settings = ServerSettings(ice=secrets.ice_servers(ice, ice_file), **given)
    sys.exit(serve_file(file, settings_of(pairs), settings, placed))


def _is_said(parameter: str) -> bool:
    return click.get_current_context().get_parameter_source(parameter) is ParameterSource.COMMANDLINE
