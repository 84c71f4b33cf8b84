"""Pictures of strangers: a file of a megabyte can hold one that unpacks to a gigabyte."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import require_package
from thalweg.stages.video.coder import VideoError
from thalweg.stages.video.file import read_frames


@pytest.mark.parametrize(("most", "refused"), [(1000, True), (10_000, False)])
def test_a_picture_of_more_pixels_than_there_may_be_is_refused(
    most: int, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_package("av", "audio")
    monkeypatch.setattr("thalweg.models.pyav.LARGEST_PIXELS", most)
    path = tmp_path / "picture.ppm"
    path.write_bytes(b"P6\n64 64\n255\n" + bytes(64 * 64 * 3))
    if refused:
        with pytest.raises(VideoError):
            list(read_frames(path))
    else:
        assert len(list(read_frames(path))) == 1
