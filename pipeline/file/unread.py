"""Stages of an untrusted pipeline file: their code is not imported, so little is known of them.

A class that a file names as `package.module:Class` is code, and importing a module runs it. Checking or drawing a file
from elsewhere must run none of its code. Such a stage therefore appears in the graph with the ports that the file's own
connections name, which carry any payload, and with the parameters that the file gives it, unchecked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from thalweg.pipeline.payload import Payload
from thalweg.pipeline.stage import STATELESS, Port, StageInfo

UNNAMED = "…"
"""The port of an end that names none."""


class Unread:
    """Stands for a class that was not imported."""


def unread(use: str, ends: Iterable[tuple[str, bool]] = ()) -> StageInfo:
    """What is known of the stage that goes by `use`: the ports at `ends`, each a name and whether it is an output."""
    ports: tuple[dict[str, Port], dict[str, Port]] = {}, {}
    for name, out in ends:
        ports[out][name or UNNAMED] = Port(Payload, required=not name, many=True)
    inputs, outputs = ports
    return StageInfo(use, Unread, inputs, outputs, configurable=frozenset(), blocking=False, replicable=STATELESS)


def ends_of(connections: Iterable[Any]) -> dict[str, set[tuple[str, bool]]]:  # Any: as the file says them
    """Stage → its ends in the connections of a file: name of the port, or none, and whether packets leave there."""
    found: defaultdict[str, set[tuple[str, bool]]] = defaultdict(set)
    for given in connections:
        if isinstance(given, str):
            ends = [end.strip() for end in given.split("->")]
        else:
            ends = [str(given.get("from")), str(given.get("to"))] if isinstance(given, dict) else []
        for source, target in pairwise(ends):
            for end, out in ((source, True), (target, False)):
                name, _, port = end.partition(".")
                found[name].add((port, out))
    return found
