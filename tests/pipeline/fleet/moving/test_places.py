"""Several places for one stage, in a pipeline file."""

from __future__ import annotations

from typing import Any

import pytest

from thalweg.pipeline.file.source import SpecError
from thalweg.pipeline.file.spec import Spec, load_spec
from thalweg.pipeline.fleet.moving.places import PlaceOf, Placing
from thalweg.pipeline.graph import Vertex
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Token
from thalweg.pipeline.stage import Context


class Source:
    outputs = {"token": Token}

    async def run(self, ctx: Context) -> None: ...


class Plain:
    inputs = {"token": Token}
    outputs = {"token": Token}
    replicable = "stateless"

    def __init__(self, size: int = 3) -> None:
        self.size = size

    def process(self, packet: Packet, ctx: Context) -> None: ...


class Keeping(Plain):
    replicable = ""

    def snapshot(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None: ...


class Forgetful(Plain):
    replicable = ""


class Waking(Plain):
    def wake(self, ctx: Context) -> None: ...


def spec(stage: str, placement: str) -> Spec:
    return load_spec(
        f"name: p\nstages:\n  a: {{use: '{__name__}:Source'}}\n  b: {{use: '{__name__}:{stage}', size: 5}}\n"
        f"connections:\n  - a -> b\nplacement:\n  {placement}\n"
    )


def vertex(stage: str, placement: str) -> Vertex:
    return spec(stage, placement).deployed.stages["b"]


def test_a_list_names_places_of_one_setting() -> None:
    found = vertex("Plain", "b: [edge, fog]")
    assert found.placing is not None
    assert [(each.name, each.quality, each.settings) for each in found.placing.places] == [
        ("edge", 1.0, {"size": 5}),
        ("fog", 1.0, {"size": 5}),
    ]
    assert found.placing.use == f"{__name__}:Plain" and not found.placing.stateful
    assert found.make().size == 5


def test_a_mapping_gives_each_place_what_is_different_there() -> None:
    found = vertex("Keeping", "b: {edge: {quality: 0.6, set: {size: 1}}, fog: {}}")
    assert found.placing is not None and found.placing.stateful
    assert [(each.quality, each.settings["size"]) for each in found.placing.places] == [(0.6, 1), (1.0, 5)]
    assert found.make().size == 1


def test_the_document_says_it_again() -> None:
    assert spec("Plain", "b: [edge, fog]").document["placement"] == {"b": ["edge", "fog"]}


@pytest.mark.parametrize(
    ("stage", "placement", "said"),
    [
        ("Plain", "b: [fog, edge]", "the places are fog, edge: expected `edge`"),
        ("Plain", "b: [edge]", "expected `edge`, this node, and then one to three others"),
        ("Plain", "b: [edge, fog, fog]", "'fog' is there twice"),
        ("Plain", "b: [edge, F og]", "'F og' cannot name a place"),
        ("Plain", "b: {edge: {}, fog: {speed: 3}}", "expected at most `quality` and `set`"),
        ("Plain", "b: {edge: {quality: 0}, fog: {}}", "quality of place 'edge' is 0"),
        ("Plain", "b: {edge: {set: 3}, fog: {}}", "`set` of place 'edge' is 3"),
        ("Plain", "b: {edge: {set: {size: no number}}, fog: {}}", "place 'edge': size"),
        ("Plain", "c: [edge, fog]", "there is no stage 'c'"),
        ("Forgetful", "b: [edge, fog]", "it keeps state that it cannot hand over"),
        ("Waking", "b: [edge, fog]", "it acts by the clock"),
        ("Plain", "a: [edge, fog]", "it is a source"),
    ],
)
def test_what_cannot_be_is_said(stage: str, placement: str, said: str) -> None:
    with pytest.raises(SpecError) as error:
        spec(stage, placement)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("edge", "cloud", "goes_on", "stays"),
    [(1.0, 1.0, True, True), (0.5, 1.0, True, False), (1.0, 0.5, True, True), (1.0, 1.0, False, False)],
)
def test_what_cannot_be_tried_out_leaves_the_edge_for_a_better_place_only(
    edge: float, cloud: float, goes_on: bool, stays: bool
) -> None:
    places = (PlaceOf(name="edge", quality=edge), PlaceOf(name="cloud", quality=cloud))
    assert Placing(use="chat", stateful=True, places=places, goes_on=goes_on).stays is stays
