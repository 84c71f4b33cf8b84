"""A disk whose image is copied in the middle of a write is started from; the 200 points are `cut_disk.py`'s."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import require_package
from tests.deploy.fleet.cut_disk import cut, why_not


@pytest.mark.real
def test_what_was_acknowledged_is_on_a_disk_that_was_cut_off(tmp_path: Path) -> None:
    require_package("cryptography", "edge")
    if reason := why_not(tmp_path):
        pytest.skip(reason)
    events, releases, wrong = cut(tmp_path, 8)
    assert wrong == [] and events > 20 and releases > 2
