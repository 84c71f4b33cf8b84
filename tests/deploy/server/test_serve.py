"""What `thalweg serve` refuses before it listens."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deploy.server.serving import PARROT, SETTINGS
from thalweg.deploy.server.serve import ServeError, serve_file

WORKERS = "workers:\n  ears: {launcher: subprocess}\n"


@pytest.mark.parametrize(
    ("more", "found"),
    [
        (WORKERS + "placement: {speaker: ears}\n", "places speaker on other workers"),
        ("placement: {default: subprocess}\n", "places microphone, speaker on other workers"),
    ],
)
def test_a_file_that_places_stages_on_workers_is_refused_and_not_served_in_one_process_all_the_same(
    tmp_path: Path, more: str, found: str
) -> None:
    path = tmp_path / "parrot.yaml"
    path.write_text(PARROT + more, encoding="utf-8")
    with pytest.raises(ServeError, match=found):
        serve_file(path, {}, SETTINGS)
