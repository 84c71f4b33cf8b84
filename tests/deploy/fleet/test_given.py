"""What a rollout is given is checked before anything is asked of a hub; two at once are two generations."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.conftest import EXAMPLES, require_package
from thalweg.deploy.fleet.errors import FleetError
from thalweg.deploy.fleet.given import check_outputs, files_by_name
from thalweg.deploy.fleet.hub.commanding import Commanding
from thalweg.deploy.fleet.hub.serve import _calls
from thalweg.deploy.fleet.hub.state import HubState
from thalweg.deploy.reading import read_spec


def test_files_lie_in_one_folder_on_the_node_so_two_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match=r"would both be model.onnx on the node"):
        files_by_name([tmp_path / "a/model.onnx", tmp_path / "b/model.onnx"])
    assert list(files_by_name([tmp_path / "p.yaml", tmp_path / "a" / ".." / "p.yaml"])) == ["p.yaml"]


def test_an_output_is_an_end_of_the_pipeline() -> None:
    spec = read_spec(EXAMPLES / "uav" / "uav.yaml", {})
    check_outputs(spec, ["flight", "alerts"])
    with pytest.raises(FleetError, match=r"--output fligth .*did you mean 'flight'.*alerts, flight"):
        check_outputs(spec, ["fligth"])


def test_a_pipeline_that_nothing_leads_out_of_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_bytes(b'name: p\nstages:\n  a: {use: mavlink.telemetry, link: "udp:127.0.0.1:1"}\n')
    with pytest.raises(FleetError, match="nothing leads out"):
        check_outputs(read_spec(tmp_path / "p.yaml", {}, trust=False), [])


def test_rollouts_at_once_are_generations_of_their_own(tmp_path: Path) -> None:
    require_package("cryptography", "hub")
    sources = {name: tmp_path / name for name in "abcdefgh"}
    for name, path in sources.items():
        path.write_bytes(name.encode() * 2_000_000)
    state = HubState(tmp_path / "hub")
    roll_out = _calls(state, Commanding())["rollout"]

    async def case() -> list[int]:
        asked = [roll_out(name, {name: str(path)}, {}, [], {}) for name, path in sources.items()]
        return [generation for generation, _ in await asyncio.gather(*asked)]

    try:
        assert sorted(asyncio.run(case())) == list(range(1, 9))
        assert len(list((tmp_path / "hub/artefacts").iterdir())) == 8
    finally:
        state.close()
