"""What is found out about a pipeline file when it is read: packets that could not be where they are to go, too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from thalweg import Packet, Payload, Pipeline
from thalweg.deploy.reading import FileError, read_spec, staying
from thalweg.errors import SpecError
from thalweg.transports.recording import MAGIC


@dataclass(frozen=True, slots=True, kw_only=True)
class Tags(Payload):
    """Carried."""

    names: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Handle(Payload):
    """Something of this process."""

    held: object


class Source:
    """Gives both."""

    outputs = {"tags": Tags, "handle": Handle}

    async def run(self, ctx: Any) -> None:
        """Nothing comes."""


class Tag:
    """Takes tags, and gives handles."""

    inputs = {"tags": Tags}
    outputs = {"handle": Handle}

    def process(self, packet: Packet, ctx: Any) -> None:
        """Nothing is made of it."""


class Sink:
    """Takes handles."""

    inputs = {"handle": Handle}

    def process(self, packet: Packet, ctx: Any) -> None:
        """Nothing is made of it."""


HERE = __name__
FILE = f"""
name: tags
stages:
  source: {{use: "{HERE}:Source"}}
  tag: {{use: "{HERE}:Tag"}}
  sink: {{use: "{HERE}:Sink"}}
connections:
  - source.tags -> tag
  - tag -> sink
"""
REFUSED = "tag.handle -> sink.handle leads to another process: Handle.held is of type object, which has no form"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tags.yaml"


def read(file: Path, more: str) -> None:
    file.write_text(FILE + more, encoding="utf-8")
    read_spec(file, {})


@pytest.mark.parametrize(
    "more",
    [
        "",
        "placement: {source: subprocess}",
        "workers: {w: {launcher: subprocess}}\nplacement: {tag: w, sink: w}",
        "workers: {w: {launcher: subprocess, restart: on_failure}}\nplacement: {default: w}",
    ],
)
def test_what_stays_in_its_process_may_be_anything(file: Path, more: str) -> None:
    read(file, more)


@pytest.mark.parametrize(
    "more",
    [
        "placement: {sink: subprocess}",
        "workers: {w: {launcher: ray}}\nplacement: {sink: w}",
        "placement: {sink: subprocess}\ntransports: {tag.handle -> sink.handle: grpc}",
        "workers: {w: {launcher: subprocess, restart: on_failure}}\nplacement: {tag: w, sink: w}",
    ],
)
def test_what_leaves_its_process_and_cannot_is_refused_with_its_line(file: Path, more: str) -> None:
    with pytest.raises(SpecError) as caught:
        read(file, more)
    assert str(caught.value).startswith(f"{file}:9:5: {REFUSED}")


def test_so_it_is_where_a_pipeline_is_built_in_python() -> None:
    pipeline = Pipeline("tags")
    for name, use in (("source", Source), ("tag", Tag), ("sink", Sink)):
        pipeline.add(name, use)
    pipeline.connect("source.tags", "tag")
    pipeline.connect("tag", "sink")
    pipeline.check()
    pipeline.place("sink", "elsewhere")
    with pytest.raises(SpecError, match=r"Handle\.held is of type object, which has no form"):
        pipeline.check()


@pytest.mark.parametrize(("said", "mode"), [("", "rotate"), ("mode: append", "append"), ("mode: replace", "replace")])
def test_in_a_run_that_nobody_watches_sinks_rotate_unless_the_file_says_otherwise(
    tmp_path: Path, said: str, mode: str
) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(
        "stages: {clock: {use: audio.file, path: x.wav}, rows: {use: sink.jsonl, path: a.jsonl, " + said + "}}\n"
        "connections: [clock -> rows.any]\n",
        encoding="utf-8",
    )
    spec = read_spec(file, {})
    assert staying(spec).document["stages"]["rows"]["mode"] == mode
    assert spec.document["stages"]["rows"].get("mode") == (said.partition(" ")[2] or None)


def test_a_recording_in_place_of_a_pipeline_file_is_told_from_a_broken_file(tmp_path: Path) -> None:
    recording, broken = tmp_path / "turn.twr", tmp_path / "broken.yaml"
    recording.write_bytes(MAGIC + b"more")
    broken.write_bytes(b"\x89nothing")
    with pytest.raises(FileError, match=rf"it is a recording, .*`thalweg replay {recording} FILE`"):
        read_spec(recording, {})
    with pytest.raises(FileError, match="it is not text in UTF-8"):
        read_spec(broken, {})
