"""All that a node has sent, read from the hub's disk: whether a hub runs there or not, and while it stores more."""

from __future__ import annotations

import base64
import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from thalweg.deploy.fleet.errors import FleetError
from thalweg.deploy.fleet.hub.unpacking import DEEPEST, unpacked
from thalweg.pipeline.fleet.spool_policy import SpoolClass
from thalweg.pipeline.suggestion import nearest
from thalweg.transports.fleet.segment import MAGIC, Stored, records


def stored_records(folder: Path, node: str, kinds: Collection[SpoolClass], since_ns: int = 0) -> Iterator[Stored]:
    """In the order in which they arrived: what was live comes before what had waited. `since_ns`: by the node's clock.

    Holds one segment at a time. Raises FleetError where there is no such node, OSError on a bad disk.
    """
    nodes = folder / "nodes"
    if not (nodes / node / "node.json").exists():
        known = [path.parent.name for path in nodes.glob("*/node.json")]
        raise FleetError(f"there is no node {node!r} in {folder}{nearest(node, known)}")
    for path in sorted((nodes / node / "records").glob("*.seg")):
        try:
            data = path.read_bytes()
        except FileNotFoundError:  # too old meanwhile: a hub removes what it need not keep
            continue
        for found in records(data, len(MAGIC)):
            stored = found.stored
            own = stored.stream.startswith("~")  # what node and hub note for themselves
            if not own and stored.kind in kinds and stored.time_ns >= since_ns:
                yield stored


def plain(stored: Stored) -> dict[str, Any]:
    """A record as JSON can hold it; what the node's pipeline has put into it is `told`. Bytes are base64, and so is the
    whole where it is no MessagePack, or too much of it (`unpacking.py`).
    """
    try:
        told = _plain(unpacked(stored.payload), DEEPEST)
    except Exception:  # a node may send anything
        told = _plain(bytes(stored.payload), DEEPEST)
    return {
        "time": stored.time_ns / 1e9,
        "kind": stored.kind.value,
        "stream": stored.stream,
        "boot": stored.boot,
        "number": stored.number,
        "told": told,
    }


def _plain(value: Any, depth: int) -> Any:
    if depth == 0:
        return None
    if isinstance(value, dict):
        return {str(key): _plain(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, depth - 1) for item in value]
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float) else str(value)
