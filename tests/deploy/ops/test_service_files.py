"""What is offered for systemd, containers and Kubernetes says things that the command line understands."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import socket
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from packaging.requirements import Requirement

from tests.conftest import require
from thalweg.deploy.__main__ import serve
from thalweg.deploy.fleet import commands as fleet
from thalweg.deploy.ops.keeping.operating import up
from thalweg.deploy.ops.keeping.systemd import notify

DEPLOY = Path(__file__).parents[3] / "deploy"


def deployed(name: str) -> dict[str, Any]:
    """The pod of a manifest."""
    documents = yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text(encoding="utf-8"))
    (pod,) = (document["spec"]["template"]["spec"] for document in documents if document["kind"] == "Deployment")
    return dict(pod)


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
    lines = dockerfile.replace("\\\n", "").splitlines()
    instructions = [line.split(None, 1) for line in lines if line and not line.startswith("#")]
    known = {
        "FROM",
        "ARG",
        "RUN",
        "COPY",
        "USER",
        "WORKDIR",
        "ENV",
        "VOLUME",
        "EXPOSE",
        "HEALTHCHECK",
        "ENTRYPOINT",
        "CMD",
    }
    assert {name for name, _ in instructions} <= known
    assert next(name for name, _ in instructions if name != "ARG") == "FROM"
    command = json.loads(dict(instructions)["CMD"])
    pod = deployed("thalweg.yaml")
    (container,) = pod["containers"]
    assert container["args"] == command
    told = parsed(command)
    assert told["foreground"] is True
    assert str(told["metrics"]).endswith(str(container["ports"][0]["containerPort"]))


@pytest.mark.parametrize("name", ["thalweg.yaml", "thalweg-serve.yaml"])
def test_a_pod_runs_as_nobody_in_particular_with_nothing_writable_but_its_volumes(name: str) -> None:
    pod = deployed(name)
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not container["image"].endswith(":latest")
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def test_kubernetes_serves_with_options_that_serve_has_and_tokens_from_secrets() -> None:
    (container,) = deployed("thalweg-serve.yaml")["containers"]
    assert container["args"][0] == "serve"
    told = serve.make_context("serve", ["voice_chat.yaml", *container["args"][2:]]).params
    assert (told["host"], told["port"]) == ("0.0.0.0", 8443)
    assert {variable["name"] for variable in container["env"]} == {"THALWEG_TOKEN_FILE", "THALWEG_ADMIN_TOKEN_FILE"}
    (tokens,) = (mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "tokens")
    assert all(variable["value"].startswith(f"{tokens}/") for variable in container["env"])


@pytest.mark.parametrize(
    ("name", "said", "group"),
    [("node", "node run", fleet.node), ("hub", "hub run", fleet.hub), ("lender", "node lend", fleet.node)],
)
def test_the_units_of_a_fleet_say_what_the_command_line_understands(name: str, said: str, group: click.Group) -> None:
    text = (DEPLOY / "systemd" / f"thalweg-{name}.service").read_text(encoding="utf-8")
    (line,) = re.findall(r"^ExecStart=\S+ (.*)", text, re.MULTILINE)
    first, command, *arguments = shlex.split(line)
    assert f"{first} {command}" == said
    told = group.commands[command].make_context(command, arguments).params
    assert str(told["folder"]) == f"%S/thalweg/{first}"


def test_systemd_is_told_where_it_asked_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        notify("WATCHDOG=1")
        assert listening.recv(100) == b"WATCHDOG=1"
    notify("WATCHDOG=1")  # nobody listens any more


@pytest.mark.real
@pytest.mark.parametrize(
    "unit",
    [f"thalweg{name}.service" for name in ("@", "-serve@", "-node", "-hub", "-lender")],
)
def test_systemd_rates_the_exposure_of_a_unit_at_three_at_most(unit: str) -> None:
    require(shutil.which("systemd-analyze"), "apt-get install systemd")
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=30", str(DEPLOY / "systemd" / unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-400:]


@pytest.mark.parametrize(("name", "with_ray"), [("requirements.txt", []), ("requirements-ray.txt", ["ray"])])
def test_the_image_installs_every_package_by_its_hash_and_in_a_version_that_we_allow(
    name: str, with_ray: list[str]
) -> None:
    lock = (DEPLOY / "container" / name).read_text(encoding="utf-8")
    locked = dict(re.findall(r"^([a-z0-9._-]+)==(\S+) \\$", lock, re.MULTILINE))
    assert all(f"{name}=={version} \\\n    --hash=sha256:" in lock for name, version in locked.items())
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted, extras = list(project["dependencies"]), ["demo", "grpc", "metrics", "otel", "webrtc", *with_ray]
    while extras:
        for requirement in map(Requirement, project["optional-dependencies"][extras.pop()]):
            if requirement.name == "thalweg":
                extras += requirement.extras
            else:
                wanted.append(str(requirement))
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(locked[requirement.name.lower().replace("_", "-")]), requirement
