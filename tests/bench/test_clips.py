"""Questions from anybody's clips."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import EXAMPLES, TEXT_READER, require_package

for module in ("av", "cv2", TEXT_READER, "skimage"):
    require_package(module, "bench")

from thalweg.deploy.bench.video import viewer  # noqa: E402
from thalweg.deploy.bench.video.allocation import Intended, looks_of  # noqa: E402
from thalweg.deploy.bench.video.clips import ask, own_clips  # noqa: E402
from thalweg.deploy.bench.video.footage import Footage  # noqa: E402
from thalweg.deploy.bench.video.packaged import COUNTS, SAMPLES, packaged_clip  # noqa: E402
from thalweg.deploy.bench.video.scenes import Clip, Question  # noqa: E402


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


def write_video(path: Path, frames: int, width: int, height: int) -> None:
    """A still picture, ten a second."""
    import av

    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(10))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for _ in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode())


@pytest.fixture
def samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the packages would bring, in their names: noise, and a photograph of a word."""
    import cv2

    write_video(tmp_path / "vtest.avi", 100, 96, 72)
    write_video(tmp_path / "carphone_pristine.mp4", 12, 176, 144)
    word = np.full((384, 512, 3), 255, np.uint8)
    cv2.putText(word, "BASMATI", (160, 200), cv2.FONT_HERSHEY_SIMPLEX, 1.2, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.imwrite(str(tmp_path / "box_in_scene.png"), word)
    monkeypatch.setenv(SAMPLES, str(tmp_path))
    return tmp_path


def test_packaged_clips_ask_about_people_a_face_and_print(samples: Path) -> None:
    kinds = {}
    for kind in COUNTS:
        clip = packaged_clip(kind, 0, 0.4)
        assert clip is not None and len(clip.frames) in (4, 12) and not clip.synthetic
        (question,) = clip.questions
        kinds[kind] = question.words, question.answer
        assert len(question.boxes) == len(clip.frames)
    assert kinds == {
        "people": ("How many people are there?", "5"),
        "face": ("How many faces are there?", "1"),
        "print": ("What does the box say?", "BASMATI"),
    }


def test_print_is_read_where_it_is_said_to_be(samples: Path) -> None:
    clip = packaged_clip("print", 0, 0.2)
    assert clip is not None and viewer.answers(clip.questions[0], dict(enumerate(clip.frames)), 1)[0]


def test_a_piece_of_a_clip_has_its_own_counts(samples: Path) -> None:
    clip = packaged_clip("people", 1, 0.2)
    assert clip is not None and len(clip.frames) == 2
    (question,) = clip.questions
    assert [question.answer_at(at) for at in (0, 15, 25, 35)] == ["7", "7", "7", "8"]


@pytest.mark.parametrize(("count", "right"), [(3, False), (4, True), (5, True), (6, True), (7, False)])
def test_a_count_of_people_may_be_off_by_one(count: int, right: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Finder:
        def find(self, pixels: object) -> list[int]:
            return [0] * count

    monkeypatch.setattr(viewer, "detector", lambda kind: Finder())
    question = Question("people", "How many people are there?", "5", ((0.0, 0.0, 1.0, 1.0, 1.0),))
    picture = np.zeros((8, 8, 3), np.uint8)
    assert viewer.answers(question, {0: picture}, 0)[0] is right


def test_what_is_known_may_lie_in_several_places() -> None:
    places = (((0.1, 0.1, 0.2, 0.2, 1.0), (0.6, 0.1, 0.2, 0.2, 1.0)),)
    question = Question("people", "How many?", "2", (places[0][0],), places)
    footage = Footage(Clip("one", (np.zeros((64, 64, 3), np.uint8),), 10.0, (question,), False))
    shown = Intended(footage.clip, "")
    assert looks_of("oracle", footage, question, shown)(0) == (places[0], 1.0)
    boxes, strength = looks_of("wrong", footage, question, shown)(0)
    assert strength == 1.0 and [round(box[0], 6) for box in boxes] == [0.6, 0.3]


def test_a_kind_whose_package_is_missing_has_no_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thalweg.deploy.bench.video.packaged._OPENCV", tmp_path)
    monkeypatch.setattr("thalweg.deploy.bench.video.packaged.find_spec", lambda name: None)
    assert [packaged_clip(kind, 0, 0.1) for kind in COUNTS] == [None] * 3
