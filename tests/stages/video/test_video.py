"""Video stages: any file in, any frame through, regions and rates taken while running."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import EXAMPLES, require_package
from thalweg.deploy.errors import StartError
from thalweg.deploy.testing import packet, run_stage
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import EncodedVideo, PayloadError, Regions, VideoFrame
from thalweg.pipeline.signal import Bitrate, KeyFrame, Region
from thalweg.stages.video.coder import Decoder
from thalweg.stages.video.encode import VideoDecoder, VideoEncoder
from thalweg.stages.video.file import VideoFile
from thalweg.stages.vision.pixels import as_rgb

require_package("av", "video")
require_package("cv2", "video")
CLIP = EXAMPLES / "labels.mp4"
STEP = 100_000_000


def frames(n: int, width: int = 64, height: int = 48, channels: int = 3, layout: str = "rgb24") -> list[Packet]:
    random = np.random.default_rng(0)
    shape = (height, width, channels) if channels > 1 else (height, width)
    return [
        packet(VideoFrame(pixels=random.integers(0, 255, shape).astype(np.uint8), layout=layout), time=i * STEP, seq=i)
        for i in range(n)
    ]


def write_video(path: Path, pix_fmt: str, size: tuple[int, int], n: int = 5, codec: str = "ffv1") -> Path:
    import av

    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        for i in range(n):
            gray: NDArray[np.uint8] = np.full((size[1], size[0], 3), 40 * i, np.uint8)
            for unit in stream.encode(av.VideoFrame.from_ndarray(gray, "rgb24").reformat(format=pix_fmt)):
                out.mux(unit)
        for unit in stream.encode():
            out.mux(unit)
    return path


def test_a_file_gives_its_frames_at_the_times_a_camera_would_have() -> None:
    emitted = run_stage(VideoFile(CLIP), []).emitted
    assert len(emitted) == 40
    assert [e.packet.time for e in emitted[:3]] == [0, STEP, 2 * STEP]
    assert all(e.at_ns >= e.packet.time for e in emitted)
    assert emitted[0].payload.pixels.shape == (480, 640, 3)  # type: ignore[attr-defined]


def test_at_full_pace_the_times_are_the_same_and_nobody_waits() -> None:
    emitted = run_stage(VideoFile(CLIP, pace="full"), []).emitted
    assert emitted[-1].packet.time == 39 * STEP and emitted[-1].at_ns < STEP


def test_frames_can_be_thinned_and_made_smaller() -> None:
    emitted = run_stage(VideoFile(CLIP, rate=5, height=120), []).emitted
    assert len(emitted) == 20
    assert emitted[0].payload.pixels.shape == (120, 160, 3)  # type: ignore[attr-defined]


def test_a_file_can_be_shown_again_and_time_goes_on() -> None:
    times = [e.packet.time for e in run_stage(VideoFile(CLIP, rate=5, loops=2), []).emitted]
    assert len(times) == 40 and times == sorted(set(times))


@pytest.mark.parametrize("pix_fmt", ["gray", "yuv420p10le", "gbrp10le", "yuv444p", "bgra"])
def test_gray_deep_and_transparent_video_becomes_rgb(tmp_path: Path, pix_fmt: str) -> None:
    path = write_video(tmp_path / "v.mkv", pix_fmt, (36, 20))
    shown = run_stage(VideoFile(path), []).payloads()
    assert [v.pixels.shape for v in shown] == [(20, 36, 3)] * 5
    assert [abs(int(v.pixels[5, 5, 0]) - 40 * i) <= 3 for i, v in enumerate(shown)] == [True] * 5


def test_a_folder_of_pictures_is_shown_in_the_order_of_names_each_in_its_size(tmp_path: Path) -> None:
    import cv2

    for name, side in (("b.png", 30), ("a.jpg", 20), ("notes.txt", 1)):
        if side > 1:
            cv2.imwrite(str(tmp_path / name), np.zeros((side, side, 3), np.uint8))
        else:
            (tmp_path / name).write_text("not a picture")
    emitted = run_stage(VideoFile(tmp_path, rate=4), []).emitted
    assert [e.payload.pixels.shape[0] for e in emitted] == [20, 30]  # type: ignore[attr-defined]
    assert [e.packet.time for e in emitted] == [0, 250_000_000]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.write_bytes(b"no video at all"), "is not video"),
        (lambda path: path.mkdir(), "holds no pictures"),
    ],
)
def test_what_is_no_video_is_refused_before_the_run(tmp_path: Path, make: Any, said: str) -> None:
    make(tmp_path / "v")
    with pytest.raises(StartError, match=said):
        run_stage(VideoFile(tmp_path / "v"), [])


def test_sound_without_pictures_is_refused() -> None:
    with pytest.raises(StartError, match="has no video stream"):
        run_stage(VideoFile(EXAMPLES / "question.flac"), [])


@pytest.mark.parametrize(
    ("width", "height", "channels", "layout"),
    [(64, 48, 3, "rgb24"), (63, 47, 3, "bgr24"), (1, 1, 3, "rgb24"), (48, 96, 1, "gray"), (40, 40, 4, "rgba")],
)
def test_every_kind_of_frame_comes_back_in_its_size(width: int, height: int, channels: int, layout: str) -> None:
    coded = run_stage(VideoEncoder(bitrate=200_000), frames(3, width, height, channels, layout)).payloads()
    shown = run_stage(VideoDecoder(), [packet(unit, time=i) for i, unit in enumerate(coded)]).payloads()
    assert [v.pixels.shape for v in shown] == [(height, width, 3)] * 3


def test_a_size_that_changes_costs_one_key_unit() -> None:
    mixed = [*frames(2), *(packet(p.payload, time=p.time + 2 * STEP) for p in frames(2, 32, 96))]
    coded = run_stage(VideoEncoder(), mixed).payloads()
    assert [(unit.key, unit.width) for unit in coded] == [(True, 64), (False, 64), (True, 32), (False, 32)]


def test_a_smaller_scale_is_taken_while_running_with_one_key_unit() -> None:
    stage = VideoEncoder()
    run = run_stage(stage, frames(2))
    stage.configure({"scale": 0.5})
    again = run_stage(stage, frames(2))
    assert [unit.width for unit in (*run.payloads(), *again.payloads())] == [64, 64, 32, 32]


def test_frames_above_the_rate_are_left_out() -> None:
    assert len(run_stage(VideoEncoder(rate=5), frames(10)).payloads()) == 5


def test_a_clock_that_jumps_does_not_stop_the_encoder() -> None:
    times = [0, STEP, 10_000 * STEP, 10_001 * STEP]
    shown = [packet(p.payload, time=t) for p, t in zip(frames(4), times, strict=True)]
    assert len(run_stage(VideoEncoder(rate=10), shown).payloads()) == 4


def test_a_rate_said_by_the_viewer_is_followed() -> None:
    stage = VideoEncoder(bitrate=400_000)
    run_stage(stage, [frames(1)[0], (1, Bitrate(bitrate_bps=90_000)), packet(frames(2)[1].payload, time=STEP)])
    assert stage.bitrate == 90_000


def test_a_viewer_that_lost_track_gets_a_key_unit() -> None:
    shown = frames(4)
    wish = (2 * STEP - 1, KeyFrame())
    coded = run_stage(VideoEncoder(), [shown[0], shown[1], wish, shown[2], shown[3]]).payloads()
    assert [unit.key for unit in coded] == [True, False, True, False]


def test_zero_bandwidth_is_a_crawl_and_no_crash() -> None:
    stage = VideoEncoder()
    outcome = run_stage(stage, [(0, Bitrate(bitrate_bps=0)), packet(frames(1)[0].payload, time=STEP)])
    assert not outcome.problems and stage.bitrate == 1_000


BAD_BOXES = [
    (),
    ((5.0, 5.0, 1.0, 1.0, 1.0),),
    ((float("nan"), 0.0, 1.0, 1.0, 1.0),),
    ((0.0, 0.0, 0.0, 0.0, 0.0),),
    tuple((i / 5000, i / 5000, 0.01, 0.01, 1.0) for i in range(5000)),
]


@pytest.mark.parametrize("boxes", BAD_BOXES, ids=["empty", "outside", "nan", "nothing", "thousands"])
def test_whatever_regions_are_signalled_frames_are_encoded(boxes: Any) -> None:
    signal = (0, Region(time=0, boxes=boxes))
    outcome = run_stage(VideoEncoder(), [signal, *(packet(p.payload, time=p.time + 1) for p in frames(3))])
    assert len(outcome.payloads()) == 3 and not outcome.problems


@pytest.mark.parametrize("method", ["quantiser", "lowpass"])
def test_a_region_keeps_its_detail_and_the_rest_loses_it(method: Any) -> None:
    (clip,) = [run_stage(VideoFile(CLIP, rate=5, pace="full"), []).payloads()]
    shown = [packet(v, time=i * 2 * STEP) for i, v in enumerate(clip)]
    region = packet(Regions(boxes=((0.25, 0.3, 0.25, 0.4, 1.0),), half_life_ns=10**12), time=0)
    stage = VideoEncoder(bitrate=150_000, rate=5, method=method, floor=20, carry=False)
    coded = run_stage(stage, {"regions": [region], "frame": shown}).payloads()
    decoded = run_stage(VideoDecoder(), [packet(unit, time=i) for i, unit in enumerate(coded)]).payloads()
    error = np.abs(decoded[-1].pixels.astype(float) - shown[-1].payload.pixels)  # type: ignore[attr-defined]
    assert error[144:336, 160:320].mean() < 0.75 * error[:, 420:].mean()


def test_until_regions_come_a_picture_is_coded_coarsely_for_half_a_second_at_most() -> None:
    (clip,) = [run_stage(VideoFile(CLIP, rate=10, pace="full"), []).payloads()]
    shown = [packet(v, time=i * STEP) for i, v in enumerate(clip[:8])]
    decoder, coarsest = Decoder(quantisers=True), []
    for unit in run_stage(VideoEncoder(bitrate=600_000, opening=20), shown).payloads():
        decoder.frames(unit.data, unit.key)
        assert decoder.quantisers is not None
        coarsest.append(int(decoder.quantisers.max()))
    assert min(coarsest[:5]) > max(coarsest[6:])


def test_a_unit_that_was_lost_costs_the_picture_not_the_stage() -> None:
    coded = run_stage(VideoEncoder(bitrate=200_000), frames(6)).payloads()
    del coded[2]
    outcome = run_stage(VideoDecoder(), [packet(unit, time=i) for i, unit in enumerate(coded)])
    assert len(outcome.payloads()) >= 4


def test_bytes_that_are_no_video_cost_that_unit() -> None:
    noise = EncodedVideo(data=b"\x00" * 40, codec="vp8", width=64, height=48, key=True)
    outcome = run_stage(VideoDecoder(), [packet(noise)])
    assert outcome.payloads() == [] and "cannot be decoded" in outcome.problems[0]


def test_a_layout_nobody_knows_is_refused() -> None:
    with pytest.raises(PayloadError, match="layout 'nv12'"):
        as_rgb(VideoFrame(pixels=np.zeros((4, 4, 3), np.uint8), layout="nv12"))
