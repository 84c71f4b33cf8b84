"""Pods, and what the Pod Security Standard "restricted" has against one.

https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted, which includes "baseline".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def pods(documents: Iterable[dict[str, Any] | None]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and template of every pod that some manifests would make."""
    for document in documents:
        if not document or "spec" not in document:
            continue
        name, spec = document["metadata"]["name"], document["spec"]
        if document["kind"] == "RayCluster":
            yield f"{name} head", spec["headGroupSpec"]["template"]
            yield from ((f"{name} {group['groupName']}", group["template"]) for group in spec["workerGroupSpecs"])
        elif "template" in spec:
            yield name, spec["template"]


def containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Those of a pod that run and those that run before."""
    return [*spec["containers"], *spec.get("initContainers", ())]


def objections(spec: dict[str, Any]) -> set[str]:
    """Everything that "restricted" forbids in the spec of a pod, by the name of the field; and three that are ours."""
    found = {name for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)}
    own = spec.get("securityContext", {})
    found |= {f"volume {kind}" for volume in spec.get("volumes", ()) for kind in volume.keys() - {"name"} - VOLUMES}
    found |= {"sysctls"} if own.get("sysctls") else set()
    for container in containers(spec):
        found |= _of_container(own, container)
    if spec.get("automountServiceAccountToken") is not False:
        found.add("automountServiceAccountToken")
    return found


def _of_container(pod: dict[str, Any], container: dict[str, Any]) -> set[str]:
    own = container.get("securityContext", {})
    both = pod | own
    dropped, added = (own.get("capabilities", {}).get(what, []) for what in ("drop", "add"))
    broken = {
        "privileged": bool(own.get("privileged")),
        "procMount": own.get("procMount", "Default") != "Default",
        "hostPort": any(port.get("hostPort") for port in container.get("ports", ())),
        "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is not False,
        "runAsNonRoot": both.get("runAsNonRoot") is not True,
        "runAsUser": both.get("runAsUser") == 0,
        "seccompProfile": both.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"),
        "capabilities": dropped != ["ALL"] or not set(added) <= {"NET_BIND_SERVICE"},
        "readOnlyRootFilesystem": own.get("readOnlyRootFilesystem") is not True,
        "image without a version": ":" not in container["image"] or container["image"].endswith(":latest"),
    }
    return {name for name, is_broken in broken.items() if is_broken}
