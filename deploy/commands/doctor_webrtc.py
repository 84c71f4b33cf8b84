"""`thalweg doctor webrtc URL`: why a connection to a server comes about, or does not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from aiortc import RTCIceServer
from aiortc.rtcicetransport import RTCIceGatherer, parse_stun_turn_uri

from thalweg.deploy.console import Console
from thalweg.pipeline.decoding import shown
from thalweg.transports.webrtc.client import Talker, TalkError
from thalweg.transports.webrtc.signalling import Signalling, on_this_machine

STEP_S = 8.0


@dataclass(slots=True)
class Finding:
    """`good`: True, False, or None where it may matter or not. `advice`: what to do about it."""

    what: str
    good: bool | None
    detail: str
    advice: str = ""


@dataclass(slots=True)
class Examination:
    """What was found, in the order it was looked at."""

    findings: list[Finding] = field(default_factory=list)

    def add(self, what: str, good: bool | None, detail: str, advice: str = "") -> None:
        """Note a finding."""
        self.findings.append(Finding(what, good, detail, advice))


def examine_webrtc(url: str, token: str, ice: list[RTCIceServer], *, insecure: bool = False) -> int:
    """Print the findings; returns 0 where a conversation is possible, 1 where not. Raises TalkError: see Signalling."""
    found = asyncio.run(examination(url, token, ice, insecure=insecure))
    console = Console()
    for finding in found.findings:
        mark = {True: ("✓", "green"), False: ("✗", "red"), None: ("–", "yellow")}[finding.good]
        console.say(mark, f" {finding.what}: {finding.detail}")
        if finding.advice:
            console.say((f"    {finding.advice}", "dim"))
    return int(any(finding.good is False for finding in found.findings))


async def examination(url: str, token: str, ice: list[RTCIceServer], *, insecure: bool = False) -> Examination:
    """Look at each part of the way, one after the other; a later one tells what an earlier one means."""
    found = Examination()
    config = await _signalling(Signalling(url, token, insecure=insecure), url, token, found)
    if config is None:
        return found
    servers = []
    for server in ice or _servers(config.get("iceServers")):
        if _usable(str(server.urls)):
            servers.append(server)
        else:
            found.add("STUN and TURN", False, f"{shown(server.urls)} is no address of such a server")
    await _addresses(found)
    for server in servers:
        await _ice_server(server, found)
    if not servers:
        found.add("STUN and TURN", None, "none", "over the internet most people need some: thalweg serve --ice …")

    def talker(ice: list[RTCIceServer], relay: bool) -> Talker:
        return Talker(url, token=token, ice=ice, relay=relay, insecure=insecure)

    direct = await _conversation(lambda: talker(servers, False), found, relay=False)
    turn = [server for server in servers if str(server.urls).startswith("turn")]
    if turn:
        relayed = await _conversation(lambda: talker(turn, True), found, relay=True)
        if not direct and relayed:
            found.add("NAT", None, "only the relay works", "a firewall or NAT is in between; TURN bridges it")
    return found


async def _signalling(server: Signalling, url: str, token: str, found: Examination) -> dict[str, Any] | None:
    began = time.monotonic()
    try:
        _, config = await server.ask("GET", "/config", timeout_s=STEP_S)
        _, ready = await server.ask("GET", "/readyz", timeout_s=STEP_S)
    except TalkError as error:
        advice = "" if error.code == "certificate" else "is `thalweg serve` running, on this host and port?"
        found.add("server", False, str(error), advice)
        return None
    ms = (time.monotonic() - began) * 500
    found.add("server", True, f"{config.get('name')} at {url}, {ms:.0f} ms away")
    if ready.get("status") != "ready":
        found.add("pipeline", False, f"not ready: {ready.get('reason')}", "look at the server's log")
    parts = urlsplit(url)
    if parts.scheme == "http" and not on_this_machine(parts.hostname or ""):
        found.add(
            "page",
            None,
            "no TLS",
            "browsers give the microphone only to https:// and localhost: --certificate and --key",
        )
    if config.get("token") and not token:
        found.add("token", False, "the server wants one", "give it by --token-file, or in THALWEG_TOKEN")
    return config


async def _addresses(found: Examination) -> None:
    gatherer = RTCIceGatherer(iceServers=[])
    await gatherer.gather()
    addresses = sorted({candidate.ip for candidate in gatherer.getLocalCandidates()})
    await gatherer._connection.close()
    if addresses:
        found.add("addresses", True, f"this machine offers {', '.join(addresses)}")
    else:
        found.add(
            "addresses", False, "this machine has none but loopback", "WebRTC needs a network interface, even locally"
        )


async def _ice_server(server: RTCIceServer, found: Examination) -> None:
    """Whether a server gives a candidate: reflexive for STUN, a relay for TURN."""
    wanted = "relay" if str(server.urls).startswith("turn") else "srflx"
    gatherer = RTCIceGatherer(iceServers=[server])
    try:
        async with asyncio.timeout(STEP_S):
            await gatherer.gather()
        candidates = [c for c in gatherer.getLocalCandidates() if c.type == wanted]
    except (TimeoutError, ConnectionError, OSError, ValueError) as error:
        detail = f"{type(error).__name__} {error}".strip()
        candidates = []
    else:
        detail = "no answer" if wanted == "srflx" else "no answer, or credentials that it does not accept"
    finally:
        await gatherer._connection.close()
    if candidates:
        found.add(str(server.urls), True, f"answers; gives {candidates[0].ip}:{candidates[0].port} ({wanted})")
    else:
        found.add(str(server.urls), False, detail, "is it running, and are UDP and TCP 3478 let through to it?")


async def _conversation(make: Callable[[], Talker], found: Examination, *, relay: bool) -> bool:
    """Connect for real, as a browser would; through TURN only, where `relay`."""
    what = "conversation through TURN" if relay else "conversation"
    began = time.monotonic()
    try:
        async with asyncio.timeout(2 * STEP_S), make() as talker:
            opened = time.monotonic()
            talker.send({"type": "ping", "t": 0})
            await talker.next("pong", timeout_s=STEP_S)
            trip_ms = (time.monotonic() - opened) * 1000
    except TalkError as error:
        advice = {
            "no-path": "UDP is blocked or NAT is in between: add a TURN server with thalweg serve --ice turn:…",
            "busy": "the server is full; nothing is wrong with the way",
            "bad-offer": "codecs do not fit: the server wants Opus, and H.264 or VP8 for pictures",
        }.get(error.code, "")
        found.add(what, None if error.code == "busy" else False, str(error), advice)
        return False
    except TimeoutError:
        found.add(what, False, "connected, but no message came through", "a firewall may cut long-lived UDP flows")
        return False
    took_ms = (opened - began) * 1000
    found.add(what, True, f"connected in {took_ms:.0f} ms, round trip {trip_ms:.0f} ms, Opus both ways")
    return True


def _servers(given: Any) -> list[RTCIceServer]:
    """The servers that a server names, those that are some."""
    found = []
    for one in given if isinstance(given, list) else []:
        fields = [one.get(name) for name in ("urls", "username", "credential")] if isinstance(one, dict) else [None]
        if isinstance(fields[0], str) and all(field is None or isinstance(field, str) for field in fields):
            found.append(RTCIceServer(urls=fields[0], username=fields[1], credential=fields[2]))
    return found[:8]


def _usable(url: str) -> bool:
    """Whether aiortc can be given it: of anything else it raises what it stumbles over."""
    try:
        parsed = parse_stun_turn_uri(url)
    except ValueError:
        return False
    return 0 < parsed["port"] < 65536 and len(url) < 300 and url.isascii() and url.isprintable()
