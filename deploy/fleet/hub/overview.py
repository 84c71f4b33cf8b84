"""What is known of a fleet, for commands and the page: one row per node. For threads: records may have to be read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgpack

from thalweg.deploy.fleet.hub.map import Spot
from thalweg.deploy.fleet.hub.state import HubState
from thalweg.deploy.fleet.hub.told import bounded, number_in, place_in
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.fleet.spool_policy import SpoolClass
from thalweg.transports.fleet.segment import Stored

AWAY_S = 20.0


def overview(state: HubState) -> list[dict[str, Any]]:
    """By name. Numbers and states are what they are called; what is in maps a node has said, and may be anything."""
    now_s = state.clock.now_s()
    return [_row(state, name, node, now_s) for name, node in sorted(state.nodes.items())]


def _row(state: HubState, name: str, node: dict[str, Any], now_s: float) -> dict[str, Any]:
    said = node.get("report") or {}
    lending = state.said_to_lend(name)
    seen = said.get("seen", lending.get("seen"))
    received, lost, problem = _kept(state, name)
    rollout: dict[str, Any] = said["rollout"] if isinstance(said.get("rollout"), dict) else {}
    return {
        "node": name,
        "state": _state(node, seen, now_s),
        "seen_s": None if seen is None else round(now_s - seen, 1),
        "boot": number_in(said, "boot"),
        "wanted": node["desired"],
        "current": number_in(rollout, "current"),
        "last": number_in(rollout, "last"),
        "phase": str(rollout.get("phase", ""))[:40],
        "unread": bool(problem),
        "reason": problem or str(rollout.get("reason", ""))[:300],
        "disk": str(said.get("disk", ""))[:100],
        "waits": sum(number_in(said, "backlog", kind.value, "records") for kind in SpoolClass),
        "place": place_in(said.get("vehicle")),
        "rung": number_in(said, "vehicle", "rung"),
        "places": _places(said.get("vehicle")),
        "pipeline": _doing(said, lending),
        "backlog": said.get("backlog", {}),
        "live": said.get("live", {}),
        "link": said.get("link", {}),
        "causes": _causes(said.get("causes")),
        "lends": node.get("lends", ""),
        "video": "video" in commands if isinstance(commands := said.get("commands"), tuple | list) else False,
        "refused": said.get("refused", {}),
        "deadlines": said.get("deadlines", {}),
        "vehicle": said.get("vehicle", {}),
        "received": received,
        "lost": lost,
    }


def _doing(said: dict[str, Any], lending: dict[str, Any]) -> str:
    """How its pipeline is; of a machine that lends workers, how many are free."""
    return f"lends, {lending['free']} free" if lending else str(said.get("pipeline", ""))[:40]


def _places(vehicle: Any) -> dict[str, str]:
    """Stage → where it runs and why, of those that may run elsewhere."""
    told = vehicle if isinstance(vehicle, dict) else {}
    return {name.removeprefix("place "): str(where) for name, where in told.items() if name.startswith("place ")}


def _causes(told: Any) -> dict[str, int]:
    """Why deadlines were missed → how many."""
    return {name: number_in(told, name) for name in told if number_in(told, name)} if isinstance(told, dict) else {}


def generations(state: HubState, most: int = 30) -> list[dict[str, Any]]:
    """What nodes were to run, newest first: `wanted` of these nodes, and `current` on those."""
    found = []
    for manifest in state.manifests(most):
        number = manifest.generation
        found.append(
            {
                "generation": number,
                "pipeline": manifest.pipeline,
                "files": {file.path: file.size for file in manifest.files},
                "settings": dict(manifest.settings),
                "wanted": sorted(name for name, node in state.nodes.items() if node["desired"] == number),
                "current": sorted(
                    name
                    for name, node in state.nodes.items()
                    if number_in(node.get("report"), "rollout", "current") == number
                ),
            }
        )
    return found


def pictures(state: HubState, name: str) -> list[dict[str, Any]]:
    """The streams of a node that pictures have come of, and when the newest was taken."""
    kept = state.records(name).look().pictures
    return [{"stream": stream, "time": where.time_ns / 1e9} for stream, where in sorted(kept.items())]


def video_outcomes(state: HubState, name: str) -> dict[str, tuple[bool, str]]:
    """What has become of requests to a node: id → whether it was done, and why not."""
    found = {}
    for event in _events(state.records(name).look().outcomes):
        match event["told"]:
            case {"payload": {"id": str() as known, "done": bool() as done, "reason": str() as reason}}:
                found[known] = done, reason[:300]
    return found


def spots(state: HubState, rows: list[dict[str, Any]]) -> list[Spot]:
    """Of these nodes: where they are and have been, and their newest events that have a place."""
    found = []
    for row in rows:
        name = row["node"]
        if row["place"] is not None:
            kind = "here" if row["state"] == "here" else "away"
            found.append(
                Spot(
                    place=row["place"],
                    kind=kind,
                    label=name,
                    note=row["state"],
                    trail=tuple(state.trails.get(name, ())),
                )
            )
        for event in newest_events(state, name) if not row["unread"] else ():
            seen = event["told"].get("payload") if isinstance(event["told"], dict) else None
            if (place := place_in(seen)) is not None:
                found.append(Spot(place=place, kind="event", note=f"{name}, {event['stream']}"))
    return found


def _kept(state: HubState, name: str) -> tuple[dict[str, int], dict[str, int], str]:
    """What was received and lost of a node, and why that cannot be read: it says nothing of the other nodes."""
    try:
        found = state.records(name).look()
    except (ThalwegError, OSError) as error:
        return {}, {}, str(error)[:300]
    received = {kind: count for kind, count in found.counts.items() if kind not in ("known", "full")}
    return received, found.lost, ""


def newest_events(state: HubState, name: str, most: int = 20) -> list[dict[str, Any]]:
    """The newest events of a node, newest first, without what is binary in them."""
    return _events(state.records(name).look().newest[: -most - 1 : -1])


def _events(records: Iterable[Stored]) -> list[dict[str, Any]]:
    found = []
    for stored in records:
        try:
            told = msgpack.unpackb(stored.payload)
        except Exception:  # a node may send anything
            told = None
        found.append({"time": stored.time_ns / 1e9, "stream": stored.stream, "told": bounded(told)})
    return found


def _state(node: dict[str, Any], seen: float | None, now_s: float) -> str:
    if node["revoked"]:
        return "revoked"
    if node.get("cloned"):
        return "cloned"
    if seen is None:
        return "never seen"
    return "here" if now_s - seen < AWAY_S else "away"
