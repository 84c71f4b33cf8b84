"""The pipeline file: what is right builds a graph, what is wrong is said with its line, all at once."""

from __future__ import annotations

from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from thalweg.pipeline.channel import Policy
from thalweg.pipeline.duration import MS, Duration, format_duration, parse_duration
from thalweg.pipeline.file.source import SpecError
from thalweg.pipeline.file.spec import Spec, load_spec
from thalweg.pipeline.node import Priority
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import AudioChunk, Token
from thalweg.pipeline.stage import Context, StageError, StageInfo, describe


class Talk:
    """Emits tokens."""

    outputs = {"text": Token}

    def __init__(self, words: Annotated[int, Field(ge=1, le=9)] = 3, pause: Duration = 20 * MS) -> None:
        self.words = words
        self.pause = pause

    async def run(self, ctx: Context) -> None:
        """Say nothing."""


class Murmur:
    """Adds to its parameters, as a stage may that takes them for its own."""

    outputs = {"text": Token}

    def __init__(self, words: list[str], table: dict[str, list[str]]) -> None:
        self.words, self.table = words, table

    async def run(self, ctx: Context) -> None:
        """Say nothing."""


class Listen:
    """Takes tokens."""

    inputs = {"text": Token}

    def process(self, packet: Packet, ctx: Context) -> None:
        """Hear nothing."""


class Hum:
    """Takes audio."""

    inputs = {"audio": AudioChunk}

    def process(self, packet: Packet, ctx: Context) -> None:
        """Hear nothing."""


STAGES = {"talk": Talk, "listen": Listen, "hum": Hum, "murmur": Murmur}


def find(use: str) -> StageInfo:
    if use not in STAGES:
        raise StageError(f"there is no stage {use!r}")
    return describe(STAGES[use], use)


def load(text: str, **settings: str) -> Spec:
    return load_spec(text, "p.yaml", settings=settings, find=find)


def problems(text: str, **settings: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load(text, **settings)
    return [f"{place.line}: {message}" for place, message in caught.value.problems]


GOOD = """
name: chat
variables: {n: 4}
latency_budget: 900ms
stages:
  mouth: {use: talk, words: "${n}", pause: 5ms, deadline: 1s}
  ear: listen
connections:
  - {from: mouth, to: ear.text, policy: latest, max_age: 50ms, priority: audio}
"""


def test_a_file_becomes_a_graph_with_checked_parameters() -> None:
    spec = load(GOOD)
    mouth = spec.graph.stages["mouth"]
    connection = spec.graph.connections[0]
    assert (mouth.make().words, mouth.make().pause, mouth.deadline_ns) == (4, 5 * MS, 1000 * MS)
    assert connection.name == "mouth.text -> ear.text"
    assert (connection.policy, connection.max_age_ns, connection.priority) == (Policy.LATEST, 50 * MS, Priority.AUDIO)
    assert spec.latency_budget_ns == 900 * MS


def test_a_variable_keeps_the_type_it_was_set_with() -> None:
    assert load(GOOD, n="7").graph.stages["mouth"].make().words == 7


def test_every_mistake_is_said_at_once_with_its_line() -> None:
    text = """
stages:
  mouth: {use: talk, words: 12, pauze: 5ms}
  ear: {use: lissen}
  nose: {use: hum}
  eye: {words: 3}
conections: []
connections:
  - mouth -> nose
  - {from: mouth, to: eye, policy: newest, capacity: 0}
"""
    assert problems(text) == [
        "3: words: Input should be less than or equal to 9, found 12",
        "3: stage talk has no parameter 'pauze' (did you mean 'pause'?), it takes words, pause",
        "4: there is no stage 'lissen'",
        "6: stage 'eye' needs `use: NAME`, the kind of stage it is",
        "7: unknown key 'conections' (did you mean 'connections'?), expected one of name, description, include, "
        "variables, latency_budget, keep, preferences, stages, connections, workers, placement, transports",
        "10: policy: 'newest' is not one of block, drop_oldest, latest (did you mean 'latest'?)",
        "10: capacity: expected a number of packets, 1…1000000, found 0",
    ]


def test_ports_of_different_types_cannot_be_connected() -> None:
    text = "stages: {mouth: talk, nose: hum}\nconnections:\n  - mouth -> nose"
    assert problems(text) == ["3: mouth.text carries Token, but nose.audio takes AudioChunk"]


def test_an_input_takes_one_edge() -> None:
    text = "stages: {a: talk, b: talk, ear: listen}\nconnections:\n  - a -> ear\n  - b -> ear"
    assert problems(text) == ["4: ear.text takes one edge and already has a.text -> ear.text"]


def test_an_input_left_open_is_named_with_what_could_feed_it() -> None:
    assert problems("stages: {mouth: talk, ear: listen}") == [
        "1: nothing is connected to ear.text (Token); it could come from mouth.text"
    ]


def test_an_unknown_stage_in_a_connection_names_the_nearest() -> None:
    text = "stages: {mouth: talk, ear: listen}\nconnections:\n  - mouht -> ear"
    assert problems(text)[0] == "3: there is no stage 'mouht' (did you mean 'mouth'?)"


def test_a_variable_without_a_value_says_how_to_give_one() -> None:
    text = "variables: {n: null}\nstages: {mouth: {use: talk, words: '${n}'}, ear: listen}\nconnections: [mouth -> ear]"
    assert problems(text)[0] == "1: variable 'n' has no value: give it with --set n=…"


def test_setting_a_variable_that_is_not_there_names_the_nearest() -> None:
    assert problems(GOOD.replace("n: 4", "number: 4").replace("${n}", "${number}"), numbre="3") == [
        "2: --set numbre=…: there is no variable 'numbre' (did you mean 'number'?)"
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "1: the file is empty, expected `name`, `stages` and `connections`"),
        ("- a\n- b", "1: the file is a list, expected `name`, `stages` and `connections`"),
        ("hello", "1: the file is a text, expected `name`, `stages` and `connections`"),
        ("a: [1", "1: this is not YAML: expected ',' or ']', but got '<stream end>'"),
        ("name: x\n\tstages: {}", "2: this is not YAML: found character '\\t' that cannot start any token; "
         "indent with spaces, not tabs"),
        ("x: " + "[" * 5000, "1: this is not YAML: it is nested too deeply"),
        ("name: a\nname: b\nstages: {}", "2: 'name' stands here twice"),
        ("#" * 1_000_001, "1: the file has 1000001 characters, at most 1000000 are read"),
        ("stages: [a]", "1: `stages` is a list, expected a mapping of names"),
    ],
)  # fmt: skip
def test_what_is_no_pipeline_file_is_refused_in_one_line(text: str, message: str) -> None:
    assert message in problems(text)


def test_aliases_that_explode_are_refused() -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    (problem,) = problems("\n".join(levels))
    assert problem.endswith("the file has more than 10000 values once its aliases are followed")


def test_an_included_file_brings_its_stages() -> None:
    files = {"ears.yaml": "stages: {ear: listen}"}
    text = "include: [ears.yaml]\nstages: {mouth: talk}\nconnections: [mouth -> ear]"
    spec = load_spec(text, "p.yaml", find=find, read_file=lambda name, _: (name, files[name]))
    assert set(spec.graph.stages) == {"ear", "mouth"}


def test_files_that_include_each_other_are_refused() -> None:
    files = {"a.yaml": "include: [b.yaml]", "b.yaml": "include: [a.yaml]"}
    with pytest.raises(SpecError, match="included in a circle"):
        load_spec(files["a.yaml"], "a.yaml", find=find, read_file=lambda name, _: (name, files[name]))


@given(st.integers(min_value=1, max_value=10**15))
def test_a_duration_survives_being_written_and_read(duration_ns: int) -> None:
    assert parse_duration(format_duration(duration_ns)) == duration_ns


@given(st.text(max_size=300))
def test_no_text_makes_the_loader_fail_in_another_way(text: str) -> None:
    with pytest.raises(SpecError):
        load_spec(text, find=find)


def test_only_a_source_is_run_again() -> None:
    text = "stages:\n  a: {use: talk, retry: 2s}\n  b: {use: listen, retry: 2s}\nconnections: [a -> b]\n"
    with pytest.raises(SpecError, match="stage 'b' is no source, and only those are run again"):
        load_spec(text, find=find)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("silence", "1 parsec", ": give a number with a unit, such as 300ms, 1.5s or 2min"),
        ("threshold", "7", ", found 7"),
    ],
)
def test_what_was_found_is_said_once(key: str, value: str, said: str) -> None:
    with pytest.raises(SpecError) as refused:
        load_spec(f"stages: {{vad: {{use: speech.vad, {key}: {value}}}}}")
    (message,) = [message for _, message in refused.value.problems if key in message]
    assert message.endswith(said) and message.count(value) == 1


def test_what_a_stage_puts_into_its_parameters_does_not_come_to_the_next_one_made_from_the_file() -> None:
    made = load("stages: {talk: {use: murmur, words: [a], table: {k: [b]}}}")
    stage, other = (made.graph.stages["talk"].make() for _ in range(2))
    stage.words.append("mine")
    stage.table["k"].append("mine")
    stage.table["mine"] = []
    assert (other.words, other.table) == (["a"], {"k": ["b"]})
