"""Video over an emulated network, and the frames that a viewer needs in spite of it. All under a virtual clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thalweg.deploy.runtime.worker import Worker
from thalweg.deploy.testing import Collect, Feed, packet, run_stage, run_virtual
from thalweg.pipeline.clock import VirtualClock
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.graph import Graph
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import EncodedVideo, VideoFrame
from thalweg.pipeline.signal import Bitrate, Configure, KeyFrame, Signal
from thalweg.stages.video.link import VideoLink, read_mahimahi
from thalweg.stages.video.slots import FramesPerSlot

MS = 1_000_000


def units(count: int, size: int = 3000, every_ms: int = 100) -> list[Packet]:
    video = EncodedVideo(data=b"x" * size, codec="h264", width=64, height=48, key=True)
    return [packet(video, time=i * every_ms * MS) for i in range(count)]


def latencies(link: VideoLink, sent: list[Packet]) -> list[float]:
    return [(e.at_ns - e.packet.time) / MS for e in run_stage(link, sent).emitted]


class Sender(Feed):
    """A source that keeps the signals that come up to it."""

    def __init__(self, items: list[Packet]) -> None:
        super().__init__(items)
        self.heard: list[Signal] = []

    outputs = {"out": EncodedVideo}  # type: ignore[dict-item]

    def on_signal(self, signal: Signal, ctx: object) -> None:
        self.heard.append(signal)


def heard_upstream(link: VideoLink, sent: list[Packet]) -> list[Signal]:
    sender, graph, clock = Sender(sent), Graph(name="test"), VirtualClock()
    graph.add("sender", sender)
    graph.add("link", link)
    graph.add("sink", type("Sink", (Collect,), {"inputs": {"video": EncodedVideo}})())
    graph.connect("sender", "link")
    graph.connect("link", "sink")
    worker = Worker(graph, clock=clock)
    run_virtual(worker.run(), clock)
    assert not worker.problems
    return sender.heard


def test_a_unit_arrives_when_its_last_packet_has() -> None:
    assert latencies(VideoLink(delay=40 * MS, rate=240_000), units(3)) == pytest.approx([140.0] * 3)


def test_what_is_too_much_waits_and_then_is_lost() -> None:
    link = VideoLink(delay=0, rate=120_000, queue=9_000)
    found = latencies(link, units(20))
    assert found == sorted(found) and found[-1] < 1_000
    assert link.lost["overflow"] > 0 and link.delivered + link.lost["overflow"] == 20


def test_a_trace_and_an_outage_are_followed_and_nothing_disappears_uncounted() -> None:
    link = VideoLink(delay=0, trace=((1.0, 240_000.0), (1.0, 24_000_000.0)), outages=((2.0, 0.5),))
    found = latencies(link, units(30))
    assert found[0] == pytest.approx(100.0) and found[15] == pytest.approx(1.0)
    assert link.lost == {"outage": 5} and len(found) == 25


def test_the_same_seed_loses_the_same_units_and_bursts_fewer_of_them() -> None:
    runs = [VideoLink(loss=0.1, burst=burst, seed=3) for burst in (1.0, 1.0, 6.0)]
    arrived = [[e.packet.time for e in run_stage(link, units(300)).emitted] for link in runs]
    assert arrived[0] == arrived[1]
    assert runs[2].lost["burst"] < runs[0].lost["random"]


def test_a_lost_unit_is_asked_for_again_as_a_key_frame_after_the_way_back() -> None:
    link = VideoLink(delay=40 * MS, outages=((0.0, 0.05),))
    assert [type(signal) for signal in heard_upstream(link, units(5))] == [KeyFrame]


def test_who_sends_is_told_what_the_network_takes() -> None:
    told = [s for s in heard_upstream(VideoLink(rate=100_000, tell="up"), units(100)) if isinstance(s, Bitrate)]
    assert told[0].bitrate_bps == 300_000
    assert told[-1].bitrate_bps < 120_000


def test_more_loss_asks_for_more_frames_that_each_stand_alone() -> None:
    def asked(loss: float) -> dict[str, Any]:
        link = VideoLink(loss=loss, slots="slots", encoder="encoder")
        signals = [s for s in heard_upstream(link, units(200, size=1000)) if isinstance(s, Configure)]
        return {name: value for signal in signals for name, value in signal.settings.items()}

    assert asked(0.0) == {"frames": 1, "alone": False}
    lossy = asked(0.2)
    assert lossy["frames"] in (3, 4, 5) and lossy["alone"]


@pytest.mark.parametrize(
    ("frames", "passed"), [(1, [0, 5]), (2, [0, 3, 5, 8]), (5, list(range(10))), (8, list(range(10)))]
)
def test_so_many_frames_of_a_slot_are_let_through_evenly_spread(frames: int, passed: list[int]) -> None:
    shown = [packet(VideoFrame(pixels=np.zeros((4, 4, 3), np.uint8)), time=i * 100 * MS) for i in range(10)]
    emitted = run_stage(FramesPerSlot(frames=frames), shown).emitted
    assert [e.packet.time // (100 * MS) for e in emitted] == passed


def test_another_number_of_frames_is_taken_while_running_and_a_clock_that_goes_back_begins_a_slot() -> None:
    stage = FramesPerSlot(frames=1)
    frame = VideoFrame(pixels=np.zeros((4, 4, 3), np.uint8))
    assert len(run_stage(stage, [packet(frame, time=t * MS) for t in (900, 950, 100, 150)]).emitted) == 2
    stage.configure({"frames": 3})
    assert len(run_stage(stage, [packet(frame, time=t * MS) for t in range(500, 1000, 100)]).emitted) == 3


def test_a_recorded_trace_is_read_as_rates(tmp_path: Path) -> None:
    (tmp_path / "trace").write_text("0\n50\n99\n100\n350\n")
    assert read_mahimahi(tmp_path / "trace") == ((0.1, 360_960.0), (0.1, 120_320.0), (0.1, 0.0), (0.1, 120_320.0))


@pytest.mark.parametrize("text", ["", "5\n4\n", "a\n", "-3\n"])
def test_what_is_no_trace_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "trace").write_text(text)
    with pytest.raises(ThalwegError, match="no trace of Mahimahi's"):
        VideoLink(recording=tmp_path / "trace")


def test_a_trace_of_no_bandwidth_is_refused() -> None:
    with pytest.raises(ThalwegError, match="nothing would ever arrive"):
        VideoLink(trace=((1.0, 0.0),))
