"""Region stages: what the words ask for is found where it is, soon, and wrongly set ones say so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import EXAMPLES, TEXT_READER, require, require_model, require_package
from thalweg.deploy.errors import StartError
from thalweg.deploy.runtime.worker import Worker
from thalweg.deploy.testing import packet, run_stage, run_virtual
from thalweg.models import ModelError, ModelStore
from thalweg.pipeline.clock import VirtualClock
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.graph import Graph
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Detection, Detections, Transcript, VideoFrame
from thalweg.pipeline.signal import Region, Signal
from thalweg.pipeline.stage import Context
from thalweg.stages.video.file import VideoFile
from thalweg.stages.vision.read import TextInFrames
from thalweg.stages.vision.regions import RegionsThatMatter

for module in ("av", "cv2", TEXT_READER):
    require_package(module, "video")
CLIP = EXAMPLES / "labels.mp4"
STEP = 100_000_000
LABEL = (0.27, 0.44, 0.147, 0.045)  # of "ZONE X8527" in frame 13 of the clip: what it was composed from


def asked(**settings: Any) -> RegionsThatMatter:
    return RegionsThatMatter(understand="rules", **settings)


@pytest.fixture(scope="module")
def clip() -> list[Packet]:
    shown = run_stage(VideoFile(CLIP, pace="full"), []).payloads()
    return [packet(frame, time=i * STEP, seq=i) for i, frame in enumerate(shown)]


def covers(box: tuple[float, ...], wanted: tuple[float, ...]) -> bool:
    x, y, width, height = wanted
    return box[0] <= x and box[1] <= y and box[0] + box[2] >= x + width and box[1] + box[3] >= y + height


def test_a_question_about_text_finds_the_text(clip: list[Packet]) -> None:
    (regions,) = run_stage(asked(question="What does the label say?"), {"frame": [clip[13]]}).payloads()
    assert any(covers(box, LABEL) for box in regions.boxes)
    assert sum(box[2] * box[3] for box in regions.boxes) < 0.25
    assert regions.confidence > 0.5


def test_boxes_follow_the_camera_between_two_looks(clip: list[Packet]) -> None:
    stage = asked(question="read this", every=10_000_000_000)
    sent = run_stage(stage, {"frame": clip[:14]}).payloads()
    x, y, width, height = LABEL
    middle = (x + width / 2, y + height / 2, 0.0, 0.0)
    assert any(covers(box, middle) for box in sent[13].boxes)
    assert not any(covers(box, middle) for box in sent[0].boxes)


def test_before_anything_is_asked_there_is_no_opinion_and_words_change_it(clip: list[Packet]) -> None:
    words = packet(Transcript(text="please read", final=False), time=STEP + 1)
    emitted = run_stage(asked(), {"frame": clip[:4], "transcript": [words]}).emitted
    seen = [(e.packet.time, bool(e.payload.boxes)) for e in emitted]  # type: ignore[attr-defined]
    assert seen == [(0, False), (2 * STEP, True), (3 * STEP, True)]


def test_the_policy_none_is_silent(clip: list[Packet]) -> None:
    assert run_stage(asked(policy="none", question="read"), {"frame": clip[:3]}).payloads() == []


def test_where_the_viewer_found_something_it_looks_again(clip: list[Packet]) -> None:
    seen = Detections(items=(Detection(kind="text", text="A", score=0.9, x=0.5, y=0.5, width=0.1, height=0.1),))
    stage = RegionsThatMatter(policy="feedback")
    (regions,) = run_stage(stage, {"seen": [packet(seen, time=0)], "frame": clip[1:3]}).payloads()
    assert covers(regions.boxes[0], (0.5, 0.5, 0.1, 0.1))


def test_words_that_give_nothing_to_look_for_are_said_once_to_be_such(clip: list[Packet]) -> None:
    silent = run_stage(asked(question="hm"), {"frame": clip[:3]}).payloads()
    assert [(regions.boxes, regions.confidence) for regions in silent] == [((), 0.0)]


def test_a_viewer_that_finds_nothing_changes_nothing(clip: list[Packet]) -> None:
    nothing = packet(Detections(items=(), confidence=0.0), time=0)
    stage = RegionsThatMatter(policy="feedback")
    assert run_stage(stage, {"seen": [nothing], "frame": clip[1:3]}).payloads() == []


def test_known_regions_are_read_from_a_file(clip: list[Packet], tmp_path: Path) -> None:
    lines = [{"time_ms": 0, "boxes": [[0, 0, 0.5, 0.5, 1]]}, {"time_ms": 150, "boxes": [[0.5, 0.5, 0.5, 0.5, 1]]}]
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, lines)))
    stage = RegionsThatMatter(policy="oracle", oracle=tmp_path / "r.jsonl")
    sent = run_stage(stage, {"frame": clip[:3]}).payloads()
    assert [regions.boxes[0][0] for regions in sent] == [0.0, 0.0, 0.5]


def test_a_file_without_regions_is_refused_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text("[1, 2]")
    with pytest.raises(StartError, match="does not hold regions"):
        run_stage(RegionsThatMatter(policy="oracle", oracle=tmp_path / "r.jsonl"), {"frame": []})
    with pytest.raises(ThalwegError, match="needs `oracle`"):
        RegionsThatMatter(policy="oracle")


class Camera:
    """Shows one frame, and hears what comes back."""

    outputs = {"frame": VideoFrame}

    def __init__(self, frame: Packet) -> None:
        self._frame = frame
        self.heard: list[Signal] = []

    async def run(self, ctx: Context) -> None:
        await ctx.send(self._frame.payload, time=0)
        await ctx.sleep_until(STEP)

    def on_signal(self, signal: Signal, ctx: Context) -> None:
        self.heard.append(signal)


def test_regions_go_upstream_as_a_signal_where_that_is_asked_for(clip: list[Packet]) -> None:
    camera, graph, clock = Camera(clip[0]), Graph(name="test"), VirtualClock()
    graph.add("camera", camera)
    graph.add("regions", asked(question="read this", signal=True))
    graph.connect("camera", "regions.frame")
    run_virtual(Worker(graph, clock=clock).run(), clock)
    assert [type(signal) for signal in camera.heard] == [Region]


@pytest.mark.parametrize(("width", "height", "channels"), [(1, 1, 3), (33, 17, 1), (90, 160, 4), (5, 300, 3)])
@pytest.mark.parametrize("question", ["read", "who moves there", "the red thing", "what is it"])
def test_any_frame_is_looked_at_without_a_crash(width: int, height: int, channels: int, question: str) -> None:
    shape = (height, width, channels) if channels > 1 else (height, width)
    layout = {1: "gray", 3: "rgb24", 4: "rgba"}[channels]
    shown = [packet(VideoFrame(pixels=np.full(shape, 9, np.uint8), layout=layout), time=i * STEP) for i in range(3)]
    outcome = run_stage(asked(question=question), {"frame": shown})
    assert all("OpenCV 4" in problem for problem in outcome.problems)


def test_faces_and_people_are_found_where_opencv_has_its_detectors() -> None:
    import cv2

    require(hasattr(cv2, "CascadeClassifier"), "pip install 'opencv-python<5'")
    from skimage import data

    stage = asked(question="is she smiling")
    (regions,) = run_stage(stage, {"frame": [packet(VideoFrame(pixels=data.astronaut()))]}).payloads()
    assert any(covers(box, (0.37, 0.2, 0.12, 0.15)) for box in regions.boxes)


def test_what_moves_is_found_and_nothing_is_taken_from_the_rest_for_it(clip: list[Packet]) -> None:
    meadow = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    pixels = [meadow.copy() for _ in range(6)]
    for i, picture in enumerate(pixels):
        picture[80:120, 40 + 12 * i : 80 + 12 * i] = 255
    shown = [packet(VideoFrame(pixels=picture), time=i * STEP) for i, picture in enumerate(pixels)]
    regions = run_stage(asked(question="is it moving left or right"), {"frame": shown}).payloads()
    assert regions[-1].boxes, "for the page to show"
    assert regions[-1].confidence == 0


def test_text_is_read_with_its_place_and_how_sure_it_is(clip: list[Packet]) -> None:
    (seen,) = run_stage(TextInFrames(), [clip[13]]).payloads()
    found = {item.text: item for item in seen.items}
    assert "ZONEX8527" in {text.replace(" ", "") for text in found}
    assert seen.confidence > 0.8


def test_frames_are_read_no_more_often_than_asked(clip: list[Packet]) -> None:
    times = [e.packet.time for e in run_stage(TextInFrames(every=5 * STEP), clip[:11]).emitted]
    assert times == [0, 5 * STEP, 10 * STEP]


def test_where_nothing_is_written_the_reader_is_not_sure_of_anything() -> None:
    blank = packet(VideoFrame(pixels=np.full((64, 64, 3), 128, np.uint8)))
    (seen,) = run_stage(TextInFrames(), [blank]).payloads()
    assert (seen.items, seen.confidence) == ((), 0.0)


@pytest.mark.real
def test_with_a_sentence_model_words_need_not_be_on_a_list(clip: list[Packet]) -> None:
    require_model("all-minilm-l6-v2")
    stage = RegionsThatMatter(question="can you make out the dosage on this bottle")
    (regions,) = run_stage(stage, {"frame": [clip[13]]}).payloads()
    assert any(covers(box, LABEL) for box in regions.boxes)


def test_without_the_sentence_model_rules_do_and_that_is_said(clip: list[Packet], monkeypatch: Any) -> None:
    def missing(*_: object) -> None:
        raise ModelError("no network")

    monkeypatch.setattr(ModelStore, "pull", missing)
    outcome = run_stage(RegionsThatMatter(question="read this"), {"frame": [clip[13]]})
    assert len(outcome.payloads()) == 1
    assert outcome.problems == ["stage: words are understood by rules only: no network"]
