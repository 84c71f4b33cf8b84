"""What `thalweg hub rollout` is given, checked before a hub is asked for anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from thalweg.deploy.fleet.errors import FleetError
from thalweg.deploy.fleet.wheels import check_wheel, is_wheel
from thalweg.pipeline.file.spec import Spec
from thalweg.pipeline.fleet.gate import leads_out
from thalweg.pipeline.suggestion import nearest


def files_by_name(paths: Iterable[Path]) -> dict[str, Path]:
    """Files under the names that they have on the node, in one folder. Raises FleetError where two have the same."""
    found: dict[str, Path] = {}
    for path in paths:
        whole = path.resolve()
        if found.setdefault(path.name, whole) != whole:
            raise FleetError(
                f"{found[path.name]} and {whole} would both be {path.name} on the node, where files lie in one folder: "
                "rename one of them"
            )
    return found


def check_wheels(paths: Mapping[str, Path]) -> None:
    """Raises FleetError where one of these is a wheel that every node would refuse."""
    for name, path in paths.items():
        if is_wheel(name):
            try:
                check_wheel(path, name)
            except OSError as error:
                raise FleetError(f"{name} cannot be read: {error.strerror}") from None


def check_outputs(spec: Spec, outputs: Sequence[str]) -> None:
    """Raises FleetError where a trial could never see something come out of these; of any, where none is named."""
    ends = [name for name, vertex in spec.graph.stages.items() if leads_out(vertex.info.use)]
    if not ends:
        raise FleetError("nothing leads out of this pipeline: its trial wants to see a sink or a fleet.uplink at work")
    for name in outputs:
        if name not in ends:
            raise FleetError(
                f"--output {name} is no sink and no fleet.uplink of this pipeline{nearest(name, ends)}; "
                f"those are {', '.join(ends)}"
            )
