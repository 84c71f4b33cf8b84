"""`thalweg plan`: who would run where, said and drawn before anything starts."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from tests.conftest import EXAMPLES
from thalweg.deploy.__main__ import cli
from thalweg.deploy.cluster.ray_host import ray_options
from thalweg.deploy.ops.pictures.plan_text import plan_entry
from thalweg.deploy.reading import read_spec

SET = {"input": "x"}


@pytest.mark.parametrize(
    ("example", "across", "within"),
    [
        ("voice_turn.yaml", set(), {"memory"}),
        ("voice_turn_processes.yaml", {"shm"}, {"memory"}),
        ("voice_turn_ray.yaml", {"shm or grpc"}, {"memory"}),
    ],
)
def test_an_edge_is_memory_within_a_worker_and_something_else_across(
    example: str, across: set[str], within: set[str]
) -> None:
    edges = plan_entry(read_spec(EXAMPLES / example, SET))["edges"]
    assert {edge["transport"] for edge in edges if edge["from_worker"] == edge["to_worker"]} == within
    assert {edge["transport"] for edge in edges if edge["from_worker"] != edge["to_worker"]} == across


def test_a_transport_that_was_chosen_is_the_one_shown(tmp_path: Path) -> None:
    text = (EXAMPLES / "voice_turn_processes.yaml").read_text()
    chosen = tmp_path / "chosen.yaml"
    chosen.write_text(
        text + '\ntransports:\n  "vad.speech -> recogniser.speech": grpc\n  microphone.audio -> vad.audio: grpc\n'
    )
    edges = {edge["name"]: edge["transport"] for edge in plan_entry(read_spec(chosen, SET))["edges"]}
    assert edges["microphone.audio -> vad.audio"] == "grpc"
    assert edges["vad.speech -> recogniser.speech"] == "memory"


def test_the_command_prints_tables_or_json_and_draws(tmp_path: Path) -> None:
    command = ["plan", str(EXAMPLES / "voice_turn_processes.yaml"), "--set", "input=x"]
    printed = CliRunner().invoke(cli, [*command, "--svg", str(tmp_path / "plan.svg")])
    told = json.loads(CliRunner().invoke(cli, [*command, "--json"]).output)
    assert "ears    a subprocess  vad speech.vad, recogniser speech.recognise" in printed.output
    assert [worker["name"] for worker in told["workers"]] == ["local", "ears", "brain", "mouth"]
    texts = [text.text for text in ElementTree.parse(tmp_path / "plan.svg").iter("{http://www.w3.org/2000/svg}text")]
    assert {"microphone", "recogniser", "Transcript", "shared memory"} <= set(texts)


def test_a_host_and_labels_are_asked_for_in_words_of_ray() -> None:
    assert ray_options({"cpus": 2, "host": "10.0.0.7", "resources": {"camera": 1}, "labels": {"zone": "roof"}}) == {
        "num_cpus": 2,
        "num_gpus": 0,
        "resources": {"camera": 1, "node:10.0.0.7": 0.001},
        "label_selector": {"zone": "roof"},
    }
