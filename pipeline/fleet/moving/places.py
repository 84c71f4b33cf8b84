"""Several places for one stage, as a pipeline file gives them; which of them it is in, `placement.py` decides.

    placement:
      detector: [edge, fog]                 # here, and on a worker called `fog` that another node lends
      detector:                             # the same, with a smaller model here
        edge: {quality: 0.6, set: {size: s}}
        fog: {set: {size: l}}

The first is `edge`, this node: it is always there, open and warm, and it is where the stage begins and comes home to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from thalweg.pipeline.stage import StageInfo

EDGE: Final = "edge"
PLACES_AT_MOST = 4
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_KEYS = {"quality", "set"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceOf:
    """One place of a stage. `settings`: all that the stage is given there, plain; `quality`: 0…1, higher is better."""

    name: str
    quality: float = 1.0
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placing:
    """The places of a stage, `edge` first. `use`: the name of its class; `stateful`: its state goes with it; `goes_on`:
    it finishes what was begun elsewhere, for doing a packet again would give something else (`go_on`).
    """

    use: str
    stateful: bool
    places: tuple[PlaceOf, ...]
    goes_on: bool = False

    @property
    def stays(self) -> bool:
        """Whether it never leaves the edge: it cannot be tried out elsewhere, and no place is better."""
        return self.goes_on and all(each.quality <= self.places[0].quality for each in self.places)


def read_places(said: Any) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Place → {quality, set} of what a file says under a stage's name, and what is wrong with it."""
    found: dict[str, dict[str, Any]] = {}
    wrong: list[str] = []
    for name in said:
        options = said[name] if isinstance(said, Mapping) else {}
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            wrong.append(f"{name!r} cannot name a place: use small letters, digits, _ and -")
            continue
        if name in found:
            wrong.append(f"place {name!r} is there twice")
        options = {} if options is None else options
        if not isinstance(options, Mapping) or set(options) - _KEYS:
            wrong.append(f"place {name!r} is {options!r}, expected at most `quality` and `set`")
            continue
        quality, settings = options.get("quality", 1.0), options.get("set", {})
        if isinstance(quality, bool) or not isinstance(quality, int | float) or not 0 < quality <= 1:
            wrong.append(f"quality of place {name!r} is {quality!r}, expected a number above 0, at most 1")
        elif not isinstance(settings, Mapping):
            wrong.append(f"`set` of place {name!r} is {settings!r}, expected settings of the stage")
        else:
            found[name] = {"quality": float(quality), "set": dict(settings)}
    if not wrong and (len(found) < 2 or next(iter(found)) != EDGE or len(found) > PLACES_AT_MOST):
        wrong.append(f"the places are {', '.join(found)}: expected `{EDGE}`, this node, and then one to three others")
    return found, wrong


def placing_problem(info: StageInfo) -> str:
    """What keeps a stage from being moved while it runs; nothing where it can be."""
    if info.is_source:
        return "it is a source, and stays where what it senses is"
    if hasattr(info.cls, "join"):
        return "it joins several inputs, and would be sent each of them"
    if hasattr(info.cls, "wake"):
        return "it acts by the clock, not only on packets"
    if not info.resumes:
        return "it keeps state that it cannot hand over: it has no `snapshot` and `restore`, and is not `replicable`"
    return ""
