"""The compose file: what Compose would refuse, what each service may do, and that what they say of each other is so."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from thalweg.deploy.__main__ import cli

pytestmark = pytest.mark.filterwarnings("ignore:Field .* has conflict with protected namespace:UserWarning")
"""What the oldest Pydantic that we allow says of compose_spec."""

CONTAINER = Path(__file__).parents[3] / "deploy" / "container"
DASHBOARDS = CONTAINER.parent / "dashboards"
COMPOSE: dict[str, Any] = yaml.safe_load((CONTAINER / "compose.yaml").read_text(encoding="utf-8"))
OURS = {name: service for name, service in COMPOSE["services"].items() if "build" in service}
PROMETHEUS: dict[str, Any] = yaml.safe_load((DASHBOARDS / "prometheus.yml").read_text(encoding="utf-8"))


def check(compose: dict[str, Any]) -> None:
    """Raises ValueError where it is against the specification, or names what is not there."""
    from compose_spec import PyCompose

    # `host-gateway` is Docker's own word for an address, which the specification leaves to it
    PyCompose.from_json(json.dumps(compose).replace(":host-gateway", ":192.0.2.1")).validate()


def understood(arguments: list[str]) -> dict[str, object]:
    """What the command line makes of them. Raises click's errors."""
    command: click.Command = cli
    while isinstance(command, click.Group):
        command, arguments = command.commands[arguments[0]], arguments[1:]
    return command.make_context(str(command.name), list(arguments)).params


def mounted(service: dict[str, Any]) -> dict[str, Path]:
    """Files and folders of this repository, by where a service finds them."""
    pairs = [volume.split(":")[:2] for volume in service["volumes"] if volume.startswith(".")]
    return {inside: (CONTAINER / outside).resolve() for outside, inside in pairs}


def test_compose_takes_the_file() -> None:
    check(COMPOSE)


@pytest.mark.parametrize(
    ("service", "change"),
    [("hub", {"read_onyl": True}), ("hub", {"ports": ["a:b"]}), ("talk", {"secrets": ["nothing"]})],
)
def test_compose_takes_no_file_that_is_wrong(service: str, change: dict[str, Any]) -> None:
    spoilt = json.loads(json.dumps(COMPOSE))
    spoilt["services"][service] |= change
    with pytest.raises(ValueError, match=next(iter(change)).rstrip("s")):
        check(spoilt)


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_a_service_may_write_to_its_volumes_and_do_nothing_special(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service and "cap_add" not in service
    assert re.search(r":v?\d+\.\d+\.\d+$", service["image"])


@pytest.mark.parametrize("name", OURS)
def test_a_service_runs_a_command_that_there_is(name: str) -> None:
    assert understood(OURS[name]["command"])
    test = OURS[name]["healthcheck"]["test"]
    if test[1] == "thalweg":
        assert understood(test[2:]) is not None


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_what_is_mounted_from_here_is_here(name: str) -> None:
    named = {volume.partition(":")[0] for volume in COMPOSE["services"][name]["volumes"] if volume[0] != "."}
    assert named <= COMPOSE["volumes"].keys()
    for inside, outside in mounted(COMPOSE["services"][name]).items():
        assert outside.exists(), inside


def test_what_is_published_beyond_this_machine_wants_a_certificate_or_is_the_page_people_talk_on() -> None:
    open_ports = [
        (name, port)
        for name, service in COMPOSE["services"].items()
        for port in service.get("ports", ())
        if not port.startswith("127.0.0.1:")
    ]
    assert open_ports == [("hub", "7443:7443")]
    assert [name for name, service in COMPOSE["services"].items() if "network_mode" in service] == ["talk"]


def test_prometheus_finds_the_services_by_names_that_they_answer_to_and_the_rules() -> None:
    inside = mounted(COMPOSE["services"]["prometheus"])
    assert inside["/etc/prometheus/prometheus.yml"] == DASHBOARDS / "prometheus.yml"
    assert [inside[f"/etc/prometheus/{name}"] for name in PROMETHEUS["rule_files"]] == [DASHBOARDS / "alerts.yaml"]
    told = {job["job_name"]: job["static_configs"][0]["targets"][0] for job in PROMETHEUS["scrape_configs"]}
    hub, talk = (understood(OURS[name]["command"]) for name in ("hub", "talk"))
    assert told["hub"] == f"{OURS['hub']['environment']['THALWEG_HOST_NAME']}:{hub['page_port']}"
    assert told["talk"] == f"{talk['host_names'][0]}:{talk['port']}"  # type: ignore[index]
    (token,) = (job["authorization"] for job in PROMETHEUS["scrape_configs"] if job["job_name"] == "talk")
    assert token["credentials_file"] == OURS["talk"]["environment"]["THALWEG_ADMIN_TOKEN_FILE"]


def test_grafana_is_given_our_dashboards_and_prometheus() -> None:
    inside = mounted(COMPOSE["services"]["grafana"])
    provisioning = "/etc/grafana/provisioning"
    (source,) = yaml.safe_load(inside[f"{provisioning}/datasources/thalweg.yaml"].read_text())["datasources"]
    (provider,) = yaml.safe_load(inside[f"{provisioning}/dashboards/thalweg.yaml"].read_text())["providers"]
    assert source["url"] == "http://prometheus:9090"
    for name in ("thalweg.json", "fleet.json"):
        dashboard = json.loads(inside[f"{provider['options']['path']}/{name}"].read_text(encoding="utf-8"))
        assert dashboard["templating"]["list"][0]["query"] == source["type"]
