"""Manifests and chart: what Kubernetes would refuse, what a cluster with "restricted" pods would, and what we would."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import kubernetes_validate
import pytest
import yaml

from tests.conftest import require
from tests.deploy.ops.pods import containers, objections, pods
from thalweg.deploy.__main__ import cli
from thalweg.deploy.server.hosts.serve import HEADLESS, HEADLESS_S

ROOT = Path(__file__).parents[3]
MANIFESTS = sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml"))
CHART = ROOT / "deploy" / "chart"
OF_RAY = {"num-cpus", "dashboard-host", "resources", "node-manager-port"}
"""Options of `ray start` that the chart gives."""
VALUES: dict[str, list[str]] = {
    "as it is": [],
    "all there is": [
        *("hub.keepDays=30", "hub.service.type=LoadBalancer", "ray.enabled=true", "serve.hostName=chat.example.org"),
        *("lenders[0].name=fog-1", "lenders[0].reachedAt=fog-1.example.org", "lenders[1].name=fog-2"),
        *("serve.arguments={--per-address=2,--sessions=10}", "lending.hub=hub.example.org", "lending.files=ours"),
    ],
    "a hub alone": ["serve.enabled=false"],
    "one host, without TURN": ["hub.enabled=false", "serve.hostNetwork=true", "serve.service.type=ClusterIP"],
    "hosts without TURN": ["ray.enabled=true", "serve.hostNetwork=true"],
}


def helm(*arguments: str) -> str:
    """What it says. Fails where it says no."""
    require(shutil.which("helm"), "see https://helm.sh/docs/intro/install, or how .ci/run gets it")
    done = subprocess.run(["helm", *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rendered(*values: str) -> list[dict[str, Any]]:
    """The chart with some values, as the release `t`."""
    text = helm("template", "t", str(CHART), *(part for value in values for part in ("--set", value)))
    return [document for document in yaml.safe_load_all(text) if document]


def of_kubernetes(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What Kubernetes' own schemas speak of: the document, or the pods of one that is KubeRay's."""
    if not document["apiVersion"].startswith("ray.io/"):
        yield document
        return
    for name, template in pods([document]):
        yield {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name.replace(" ", "-")},
            "spec": template["spec"],
        }


def is_valid(document: dict[str, Any]) -> None:
    """Raises ValidationError."""
    kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def understood(arguments: list[str]) -> dict[str, object]:
    """What the command line makes of them. Raises click's errors."""
    command: click.Command = cli
    while isinstance(command, click.Group):
        command, arguments = command.commands[arguments[0]], arguments[1:]
    files = [part for part in arguments if not part.startswith("/etc/") or part.startswith("-")]
    missing = ["voice_chat.yaml"] * (len(arguments) - len(files))
    known = [re.sub(r"=/etc/\S+\.\w+$", f"={__file__}", part) for part in files]
    known = [re.sub(r"=/etc/\S+$", f"={ROOT}", part) for part in known]
    return command.make_context(str(command.name), [*missing, *known]).params


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.name)
def test_kubernetes_takes_a_manifest(manifest: Path) -> None:
    for document in yaml.safe_load_all(manifest.read_text(encoding="utf-8")):
        is_valid(document)


def test_kubernetes_takes_no_manifest_with_a_field_that_it_does_not_know() -> None:
    *_, deployment = yaml.safe_load_all(MANIFESTS[-1].read_text(encoding="utf-8"))
    deployment["spec"]["template"]["spec"]["automountServiceAccountTokne"] = False
    with pytest.raises(kubernetes_validate.ValidationError):
        is_valid(deployment)


@pytest.mark.parametrize(
    ("manifest", "against"), [("thalweg.yaml", set[str]()), ("thalweg-serve.yaml", {"hostNetwork"})]
)
def test_a_restricted_namespace_takes_a_manifest_but_for_the_network_of_its_node(
    manifest: str, against: set[str]
) -> None:
    documents = yaml.safe_load_all((ROOT / "deploy" / "kubernetes" / manifest).read_text(encoding="utf-8"))
    ((_, template),) = pods(documents)
    assert objections(template["spec"]) == against


def _first(spec: dict[str, Any]) -> dict[str, Any]:
    return dict.__getitem__(spec, "containers")[0]["securityContext"]  # type: ignore[no-any-return]


SPOILT: dict[str, Callable[[dict[str, Any]], object]] = {
    "runAsNonRoot": lambda spec: spec["securityContext"].pop("runAsNonRoot"),
    "seccompProfile": lambda spec: spec["securityContext"].pop("seccompProfile"),
    "runAsUser": lambda spec: _first(spec).update(runAsUser=0),
    "allowPrivilegeEscalation": lambda spec: _first(spec).pop("allowPrivilegeEscalation"),
    "readOnlyRootFilesystem": lambda spec: _first(spec).pop("readOnlyRootFilesystem"),
    "capabilities": lambda spec: _first(spec)["capabilities"].update(add=["SYS_NICE"]),
    "privileged": lambda spec: _first(spec).update(privileged=True),
    "automountServiceAccountToken": lambda spec: spec.pop("automountServiceAccountToken"),
    "volume hostPath": lambda spec: spec["volumes"].append({"name": "x", "hostPath": {"path": "/"}}),
    "hostPort": lambda spec: spec["containers"][0]["ports"][0].update(hostPort=80),
    "hostPID": lambda spec: spec.update(hostPID=True),
    "image without a version": lambda spec: spec["containers"][0].update(image="thalweg:latest"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_pod_that_may_do_more_is_noticed(what: str) -> None:
    documents = yaml.safe_load_all((ROOT / "deploy" / "kubernetes" / "thalweg.yaml").read_text(encoding="utf-8"))
    ((_, template),) = pods(documents)
    spec = copy.deepcopy(template["spec"])
    SPOILT[what](spec)
    assert objections(spec) == {what}


@pytest.mark.real
def test_helm_has_nothing_against_the_chart() -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART))


@pytest.mark.real
@pytest.mark.parametrize("values", VALUES)
def test_kubernetes_takes_what_the_chart_makes_of_its_values(values: str) -> None:
    documents = rendered(*VALUES[values])
    assert documents
    for document in documents:
        for part in of_kubernetes(document):
            is_valid(part)


@pytest.mark.real
@pytest.mark.parametrize("values", VALUES)
def test_the_charts_pods_are_restricted_but_for_the_network_of_their_node_where_that_is_asked_for(values: str) -> None:
    asked = {"hostNetwork"} if "serve.hostNetwork=true" in VALUES[values] else set()
    for name, template in pods(rendered(*VALUES[values])):
        spec = template["spec"]
        assert objections(spec) <= asked, name
        mounts = {mount["name"] for container in containers(spec) for mount in container["volumeMounts"]}
        assert mounts == {volume["name"] for volume in spec["volumes"]}, name
        assert all(any(m["mountPath"] == "/tmp" for m in c["volumeMounts"]) for c in containers(spec)), name


@pytest.mark.real
def test_the_chart_says_what_the_command_line_understands() -> None:
    found = {}
    for _, template in pods(rendered(*VALUES["all there is"])):
        for container in template["spec"]["containers"]:
            if container["name"] == "front":  # its command says the first word
                found["front"] = understood(["serve", *container["args"]])
            elif "args" in container:
                found[container["name"]] = understood(container["args"])
    assert (found["hub"]["page_port"], found["hub"]["keep_days"]) == (7480, 30)
    assert (found["lender"]["workers"], found["lender"]["port"], found["lender"]["files"]) == (4, 7444, ROOT)
    assert (found["front"]["on"], found["front"]["host_names"]) == ("ray", ("chat.example.org",))
    (talk,) = (t["spec"]["containers"][0] for name, t in pods(rendered()) if name == "t-talk")
    assert understood(talk["args"])["port"] == talk["ports"][0]["containerPort"]


@pytest.mark.real
def test_every_service_of_the_chart_leads_to_a_port_of_one_pod() -> None:
    for values in VALUES.values():
        documents = rendered(*values)
        labelled = [(t["metadata"]["labels"], t["spec"]["containers"]) for _, t in pods(documents)]
        for service in (document for document in documents if document["kind"] == "Service"):
            wanted = service["spec"]["selector"].items()
            (chosen,) = (found for labels, found in labelled if wanted <= labels.items())
            names = {port["name"] for container in chosen for port in container.get("ports", ())}
            assert {port["targetPort"] for port in service["spec"]["ports"]} <= names, service["metadata"]["name"]


@pytest.mark.real
def test_conversations_go_to_ray_nodes_with_the_resource_and_fronts_compute_nothing() -> None:
    (cluster,) = (d for d in rendered(*VALUES["all there is"]) if d["kind"] == "RayCluster")
    lock = (ROOT / "deploy" / "container" / "requirements-ray.txt").read_text(encoding="utf-8")
    assert f"\nray=={cluster['spec']['rayVersion']} " in lock
    groups = {group["groupName"]: group for group in cluster["spec"]["workerGroupSpecs"]}
    given = {name: group["rayStartParams"] for name, group in groups.items()}
    given["head"] = cluster["spec"]["headGroupSpec"]["rayStartParams"]
    assert json.loads(given["hosts"]["resources"].strip('"').replace('\\"', '"')) == {"thalweg": 1}
    assert given["head"]["num-cpus"] == given["fronts"]["num-cpus"] == "0"
    assert all(params.keys() <= OF_RAY for params in given.values())
    assert all(isinstance(value, str) for params in given.values() for value in params.values())
    (front,) = (c for c in groups["fronts"]["template"]["spec"]["containers"] if c["name"] == "front")
    assert f"--address={cluster['metadata']['name']}-head-svc:6379" in front["args"]


@pytest.mark.real
def test_each_pod_of_the_ray_cluster_outlives_its_head() -> None:
    (cluster,) = (each for each in rendered("ray.enabled=true") if each["kind"] == "RayCluster")
    nodes = [each for _, pod in pods([cluster]) for each in pod["spec"]["containers"] if each["name"] != "front"]
    assert [each["name"] for each in nodes] == ["ray-head", "host", "ray-node"]
    for each in nodes:
        assert {"name": HEADLESS, "value": HEADLESS_S} in each["env"]
