"""What a text becomes: the parameter decides, not the look of a value."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import Field

from thalweg.pipeline.duration import MS, Duration
from thalweg.pipeline.file.source import MAX_VALUES, SpecError, read_source
from thalweg.pipeline.file.spec import Spec, load_document, load_spec
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Token
from thalweg.pipeline.stage import Context, StageInfo, describe


class Everything:
    """Takes a parameter of every kind."""

    outputs = {"text": Token}

    def __init__(
        self,
        text: str = "",
        path: Path | None = None,
        whole: Annotated[int, Field(ge=0)] = 0,
        number: float | None = None,
        flag: bool = False,
        pause: Duration = MS,
        words: list[str] | None = None,
        rates: dict[str, float] | None = None,
        rate: Literal[8000, 16000] = 8000,
        anything: Any = None,
    ) -> None:
        self.given = {name: value for name, value in locals().items() if name != "self"}

    async def run(self, ctx: Context) -> None:
        """Nothing."""


class Listen:
    """Takes tokens."""

    inputs = {"text": Token}

    def process(self, packet: Packet, ctx: Context) -> None:
        """Nothing."""


def find(use: str) -> StageInfo:
    return describe({"all": Everything, "listen": Listen}[use], use)


def load(text: str, **settings: str) -> Spec:
    return load_spec(text, "p.yaml", settings=settings, find=find)


FILE = """
variables: {{x: {{description: a value}}}}
stages: {{a: {{use: all, {parameter}: "${{x}}"}}, b: listen}}
connections: [a -> b]
"""
LOOKS = [
    "no", "off", "yes", "null", "~", "2024", "007", "0x1F", "12:30:45", "2024-05-01", "3.10", "1e3", "Track #3.wav",
    "You are agent #1: polite", " spaced ", "[x]", "{a: b}", "*x", "&x", "!x", "- a", "a: b", "'q'", "", "%", "@",
]  # fmt: skip


def taken(parameter: str, value: str) -> Any:
    spec = load(FILE.format(parameter=parameter), x=value)
    again = load_document(read_source(yaml.safe_dump(spec.document, sort_keys=False), "again"), find)
    made, made_again = (s.graph.stages["a"].make().given[parameter] for s in (spec, again))
    assert made == made_again and type(made) is type(made_again)
    return made


@pytest.mark.parametrize("value", LOOKS)
def test_a_text_that_is_set_stays_as_it_is_to_the_last_character(value: str) -> None:
    assert taken("text", value) == value
    assert taken("path", value) == Path(value)


@pytest.mark.parametrize(
    ("parameter", "value", "becomes"),
    [
        ("whole", "5", 5),
        ("whole", "0x1F", 31),
        ("number", "3.10", 3.1),
        ("number", "-2", -2.0),
        ("flag", "no", False),
        ("flag", "true", True),
        ("pause", "1.5s", 1500 * MS),
        ("words", "[yes, no, 12:30, '#1']", ["yes", "no", "12:30", "#1"]),
        ("rates", "{a: 1, b: 2.5}", {"a": 1.0, "b": 2.5}),
        ("rate", "16000", 16000),
        ("anything", "5", 5),
        ("anything", "true", True),
        ("anything", "no", "no"),
        ("anything", "12:30:45", "12:30:45"),
    ],
)
def test_a_text_that_is_set_becomes_what_the_parameter_takes(parameter: str, value: str, becomes: object) -> None:
    assert taken(parameter, value) == becomes


@pytest.mark.parametrize(("parameter", "value"), [("whole", "no"), ("whole", "-1"), ("words", "yes"), ("pause", "300")])
def test_a_text_that_the_parameter_cannot_take_is_refused_as_it_was_given(parameter: str, value: str) -> None:
    with pytest.raises(SpecError, match=rf"{parameter}: (.*found '?{value}'?$|{value} is not a length of time)"):
        taken(parameter, value)


@pytest.mark.parametrize("value", ["no", "2024", "007", "12:30:45", "2024-05-01", "0o17", "1_000", ".5", "off"])
def test_a_value_without_quotes_is_the_text_that_stands_there_where_text_is_wanted(value: str) -> None:
    file = (
        f"stages: {{a: {{use: all, text: {value}, path: {value}, words: [{value}]}}, b: listen}}\nconnections: [a -> b]"
    )
    given = load(file).graph.stages["a"].make().given
    assert (given["text"], given["path"], given["words"]) == (value, Path(value), [value])


def test_a_default_without_quotes_is_text_too_and_inside_a_text() -> None:
    file = 'variables: {x: 007}\nstages: {a: {use: all, path: "${x}", text: "clip-${x}.wav"}, b: listen}\n'
    given = load(file + "connections: [a -> b]").graph.stages["a"].make().given
    assert (given["path"], given["text"]) == (Path("007"), "clip-007.wav")


def test_workers_places_names_and_edges_are_text_whatever_they_look_like() -> None:
    file = """
name: 2024
stages: {on: all, no: listen}
connections: [{from: on, to: no, capacity: "${n}"}]
variables: {n: 3, place: off}
workers: {off: {launcher: subprocess, restarts: "${n}"}}
placement: {no: off, on: "${place}"}
"""
    spec = load(file, n="4")
    assert spec.graph.name == "2024"
    assert list(spec.plan.workers) == ["off"]
    assert spec.plan.workers["off"].restart.restarts == 4
    assert spec.graph.connections[0].capacity == 4
    again = load_document(read_source(yaml.safe_dump(spec.document, sort_keys=False), "again"), find)
    assert again.plan == spec.plan


COMMON = """
x-common: &common {text: common, pause: 5ms}
x-more: &more {text: more, flag: yes}
stages:
  a: {<<: %s, use: all, pause: 7ms}
  b: listen
connections: [a -> b]
"""


@pytest.mark.parametrize(
    ("merge", "text"), [("*common", "common"), ("[*common, *more]", "common"), ("[*more]", "more")]
)
def test_merge_keys_take_in_what_another_mapping_says_and_own_keys_win(merge: str, text: str) -> None:
    given = load(COMMON % merge).graph.stages["a"].make().given
    assert (given["text"], given["pause"]) == (text, 7 * MS)


def test_a_merge_of_merges_takes_in_all_of_them() -> None:
    file = (COMMON % "*most").replace("stages:", "x-most: &most {<<: *common, flag: true}\nstages:")
    given = load(file).graph.stages["a"].make().given
    assert (given["text"], given["flag"]) == ("common", True)


def test_a_merge_of_what_is_no_mapping_is_refused_with_its_line() -> None:
    with pytest.raises(SpecError, match=r"p.yaml:5:11: `<<` takes in a mapping, or a list of mappings"):
        load(COMMON % "seven")


def test_merges_that_explode_or_go_in_a_circle_are_refused() -> None:
    deep = "a0: &a0 {k: 1}\n" + "".join(
        f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 12)
    )
    with pytest.raises(SpecError, match=f"more than {MAX_VALUES} values"):
        read_source(deep, "p.yaml")
    with pytest.raises(SpecError, match="more than"):
        read_source("a: &a {<<: *a}", "p.yaml")


def test_a_key_of_ones_own_is_left_alone_and_a_misspelt_one_is_not() -> None:
    load(COMMON % "*common")
    with pytest.raises(SpecError, match="unknown key 'y-common'"):
        load((COMMON % "*common").replace("x-more", "y-common"))
