"""The places of a stage that a pipeline file gives several of: read, and checked against the stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from thalweg.pipeline.file.complaint import complaint
from thalweg.pipeline.file.unread import Unread
from thalweg.pipeline.file.values import plain
from thalweg.pipeline.fleet.moving.places import EDGE, PlaceOf, Placing, placing_problem, read_places
from thalweg.pipeline.graph import Vertex


def placing_of(
    vertex: Vertex, settled: Mapping[str, Any], said: Any
) -> tuple[Placing | None, dict[str, Any] | None, list[str]]:
    """The places, the arguments of the stage at the edge where they are its own, and what is wrong.

    `settled`: the settings that the stage is given everywhere; `said`: a list or mapping, with variables filled in.
    """
    info = vertex.info
    found, wrong = read_places(plain(said))
    unread = info.cls is Unread
    if not unread and (problem := placing_problem(info)):
        wrong.append(f"stage {vertex.name!r} ({info.use}) cannot be moved while it runs: {problem}")
    places: list[PlaceOf] = []
    here: dict[str, Any] | None = None
    for place, options in found.items():
        settings = {**plain(dict(settled)), **options["set"]}
        try:
            arguments = {} if unread or info.made else info.check(settings)
        except ValidationError as error:
            wrong += [f"place {place!r}: {complaint(vertex.name, info, each)}" for each in error.errors()]
            continue
        keeps_here = getattr(info.cls, "keeps_here", None)
        if keeps_here is not None and (why := keeps_here(arguments)):
            wrong.append(f"stage {vertex.name!r} ({info.use}) must not leave this machine: {why}")
            continue
        places.append(PlaceOf(name=place, quality=options["quality"], settings=settings))
        if place == EDGE and options["set"]:
            here = arguments
    if wrong:
        return None, None, wrong
    stateful = hasattr(info.cls, "snapshot")
    goes_on = stateful and hasattr(info.cls, "go_on")
    return Placing(use=info.use, stateful=stateful, places=tuple(places), goes_on=goes_on), here, []
