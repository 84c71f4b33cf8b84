"""Large graphs are checked in little time, and many mistakes cost no more than a few."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from thalweg.pipeline.file.source import SpecError
from thalweg.pipeline.file.spec import load_spec
from thalweg.pipeline.graph import Connection, Graph, GraphError, Vertex
from thalweg.pipeline.payload import Token
from thalweg.pipeline.stage import describe
from thalweg.pipeline.suggestion import SUGGESTIONS, nearest


class Pass:
    """Passes on."""

    inputs = {"in": Token}
    outputs = {"out": Token}

    def process(self, packet: Any, ctx: Any) -> None:
        ctx.emit(packet.payload)


class Source:
    """Gives nothing."""

    outputs = {"out": Token}

    async def run(self, ctx: Any) -> None:
        pass


PASS, SOURCE = describe(Pass), describe(Source)


def chain(stages: int) -> Graph:
    graph = Graph()
    names = [f"s{i}" for i in range(stages)]
    for name in names:
        graph.add_vertex(Vertex(name=name, info=PASS if name != "s0" else SOURCE, make=Pass))
    for a, b in itertools.pairwise(names):
        graph.connect(a, b)
    return graph


def test_a_chain_of_five_thousand_stages_is_valid() -> None:
    assert chain(5000).problems() == []


def test_a_circle_is_named_however_long_it_is() -> None:
    graph = Graph()
    names = [f"s{i}" for i in range(3000)]
    for name in names:
        graph.add_vertex(Vertex(name=name, info=PASS, make=Pass))
    for a, b in itertools.pairwise([*names, "s0"]):
        graph.connect(a, b)
    assert graph.cycle() == [*names, "s0"]


def test_a_circle_off_the_way_is_found_and_only_it_is_named() -> None:
    graph = Graph()
    for name in ("a", "b", "c", "d"):
        graph.add_vertex(Vertex(name=name, info=PASS, make=Pass))
    graph.connect("a", "b")
    graph.connect("b", "c")
    graph.connections.append(Connection(source="c", source_port="out", target="b", target_port="in"))
    assert graph.cycle() == ["b", "c", "b"]


def test_an_input_that_is_taken_is_known_though_connections_were_added_by_hand() -> None:
    graph = chain(3)
    graph.connections.pop()
    graph.connect("s1", "s2")
    with pytest.raises(GraphError, match=r"takes one edge and already has s1\.out -> s2\.in"):
        graph.connect("s0", "s2")


def complaints(text: str, settings: dict[str, str] | None = None) -> SpecError:
    with pytest.raises(SpecError) as raised:
        load_spec(text, settings=settings, find=lambda use: SOURCE if use == "source" else PASS)
    return raised.value


def test_a_thousand_misspelt_settings_are_all_said_and_the_first_are_told_the_nearest_name() -> None:
    variables = "".join(f"  a_variable_of_mine_{i}: 1\n" for i in range(1000))
    text = f"variables:\n{variables}stages: {{s: source}}\n"
    error = complaints(text, {f"a_variable_of_mime_{i}": "1" for i in range(1000)})
    assert len(error.problems) == 1000
    assert sum("did you mean" in message for _, message in error.problems) == SUGGESTIONS


def test_two_thousand_misspelt_connections_are_all_said_and_the_first_are_told_the_nearest_name() -> None:
    stages = "".join(f"  a_stage_of_mine_{i}: pass\n" for i in range(1000))
    connections = "".join(f"  - a_stage_of_mime_{i} -> a_stage_of_mine_{i % 1000}\n" for i in range(2000))
    error = complaints(f"stages:\n{stages}connections:\n{connections}")
    assert len(error.problems) == 2000
    assert sum("did you mean" in message for _, message in error.problems) == SUGGESTIONS


@pytest.mark.parametrize("name", ["x" * 1_000_000, ""])
def test_a_name_that_no_name_is_like_gets_no_suggestion(name: str) -> None:
    assert nearest(name, ["camera"] * 100) == ""


def test_a_name_alone_is_told_the_nearest() -> None:
    assert nearest("camra", ["microphone", "camera"]) == " (did you mean 'camera'?)"
