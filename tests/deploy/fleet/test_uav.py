"""The example that flies is a pipeline, and what it flies is a circle."""

from __future__ import annotations

from tests.conftest import EXAMPLES
from thalweg.deploy.reading import read_spec


def test_the_example_is_a_valid_pipeline_whose_ends_lead_to_the_hub() -> None:
    spec = read_spec(EXAMPLES / "uav" / "uav.yaml", {})
    ends = {name for name, vertex in spec.graph.stages.items() if vertex.info.use == "fleet.uplink"}
    assert ends == {"alerts", "flight"}
