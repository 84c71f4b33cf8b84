"""The examples that come with Thalweg are pipeline files that can be run."""

from __future__ import annotations

from pathlib import Path

import pytest

from thalweg.deploy.reading import read_spec

EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_nothing_is_wrong_with_it(path: Path) -> None:
    assert read_spec(path, {}, to_look_at=True).graph.stages
