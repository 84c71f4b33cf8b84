"""What is offered for systemd, containers and Kubernetes says things that the command line understands."""

from __future__ import annotations

import configparser
import json
import re
import shlex
from pathlib import Path

import yaml

from thalweg.deploy.ops.keeping.operating import up

DEPLOY = Path(__file__).parents[3] / "deploy"


def parsed(arguments: list[str]) -> dict[str, object]:
    """What `thalweg up` would do with them. Raises click's errors on what it does not understand."""
    assert arguments[0] == "up"
    return up.make_context("up", arguments[1:]).params


def test_the_systemd_unit_keeps_a_deployment_in_the_foreground_and_waits_for_its_word() -> None:
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string((DEPLOY / "systemd" / "thalweg@.service").read_text())
    command = shlex.split(unit["Service"]["ExecStart"])
    told = parsed([part for part in command[1:] if part != "$ARGUMENTS"])
    assert told["foreground"] is True
    assert told["name"] == "%i"
    assert unit["Service"]["Type"] == "notify"
    assert unit["Service"]["KillMode"] == "mixed"


def test_the_container_runs_what_kubernetes_asks_it_to_run() -> None:
    dockerfile = (DEPLOY / "container" / "Dockerfile").read_text()
    instructions = [line.split(None, 1) for line in dockerfile.splitlines() if line and not line.startswith("#")]
    known = {"FROM", "ARG", "RUN", "COPY", "USER", "WORKDIR", "ENV", "VOLUME", "EXPOSE", "ENTRYPOINT", "CMD"}
    assert {name for name, _ in instructions} <= known
    assert instructions[0][0] == "FROM"
    command = json.loads(dict(instructions)["CMD"])
    deployment = yaml.safe_load((DEPLOY / "kubernetes" / "thalweg.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["args"] == command
    told = parsed(command)
    assert told["foreground"] is True
    assert str(told["metrics"]).endswith(str(container["ports"][0]["containerPort"]))
    volumes = {volume["name"] for volume in deployment["spec"]["template"]["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    extras = re.search(r"ARG EXTRAS=(.*)", dockerfile)
    project = (DEPLOY.parent / "pyproject.toml").read_text()
    assert extras is not None
    assert all(re.search(rf"^{extra} = ", project, re.MULTILINE) for extra in extras[1].split(","))
