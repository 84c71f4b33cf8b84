"""Questions from anybody's clips."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from tests.conftest import EXAMPLES, require_package

for module in ("av", "cv2", "rapidocr_onnxruntime", "skimage"):
    require_package(module, "bench")

from thalweg.deploy.bench.video.clips import ask, own_clips  # noqa: E402


def test_a_clip_with_text_gets_a_question_whose_answer_is_read_in_it(tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "labels.mp4", tmp_path)
    (tmp_path / "notes.txt").write_text("no video")
    (clip,) = own_clips(tmp_path)
    (question,) = clip.questions
    assert question.answer in ("ZONEX8527", "CAGEB427", "TRACKK895")
    assert len(question.boxes) == len(clip.frames) == 40 and not clip.synthetic


def test_a_clip_without_text_or_too_short_is_not_asked_about() -> None:
    gray = np.full((64, 64, 3), 128, np.uint8)
    assert ask("gray", (gray,) * 40) is None
    assert ask("short", (gray,) * 3) is None
