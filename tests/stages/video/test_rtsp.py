"""A camera by RTSP, real server: pictures come, it stalls, goes away and comes back; secrets stay where they are."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require, require_package
from thalweg import Pipeline
from thalweg.deploy.bench.ports import free_port
from thalweg.pipeline.payload import VideoFrame
from thalweg.stages.video import rtsp
from thalweg.stages.video.coder import VideoError
from thalweg.stages.video.rtsp import VideoRtsp

PYTHON = "/usr/bin/python3"  # the system's, whose packages are Debian's
PRESENT = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
PACKAGES = "apt-get install python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good"
PATIENCE_S = 90.0


@contextmanager
def camera(port: int, login: str = "") -> Iterator[subprocess.Popen[str]]:
    command = [PYTHON, str(Path(__file__).with_name("rtsp_camera.py")), str(port), *([login] if login else [])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


class Watching:
    """A pipeline that watches a camera: how many pictures have come, the newest, and what was reported."""

    def __init__(self, port: int, **settings: Any) -> None:
        self.pipeline = Pipeline("watch")
        self.pipeline.add("camera", "video.rtsp", url=f"rtsp://127.0.0.1:{port}/live", patience="2s", **settings)
        self.pipeline.expose("camera.frame")
        self.count = 0
        self.problems: list[str] = []  # that were reported
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Watching:
        self.run = await self.pipeline.run().__aenter__()
        await self._tasks.__aenter__()
        self._listening = self._tasks.create_task(self._listen())
        return self

    async def __aexit__(self, *error: Any) -> None:
        self._listening.cancel()
        await self._tasks.__aexit__(*error)
        await self.run.__aexit__(None, None, None)
        assert self.run.outcome is not None
        self.problems = [str(problem) for problem in self.run.outcome.problems]

    async def _listen(self) -> None:
        async for packet in self.run.packets("camera.frame"):
            assert isinstance(packet.payload, VideoFrame) and packet.payload.pixels.shape == (120, 160, 3)
            assert packet.payload.pixels.std() > 10
            self.count += 1

    async def more(self, pictures: int = 3) -> None:
        """Wait for so many more pictures."""
        before = self.count
        async with asyncio.timeout(PATIENCE_S):
            while self.count < before + pictures:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def still(self) -> None:
        """Wait until no more come."""
        async with asyncio.timeout(PATIENCE_S):
            before = -1
            while self.count != before:
                before = self.count
                await asyncio.sleep(0.5)


@pytest.fixture
def port() -> int:
    require_package("av", "video")
    there = Path(PYTHON).exists() and not subprocess.run([PYTHON, "-c", PRESENT], capture_output=True).returncode
    require(there, PACKAGES)
    return free_port()


@pytest.mark.real
def test_a_camera_may_come_late_stall_go_away_and_come_back(port: int) -> None:
    async def case() -> Watching:
        async with Watching(port) as watching:
            with camera(port) as first:
                await watching.more()
                os.kill(first.pid, signal.SIGSTOP)
                await watching.still()
                await asyncio.sleep(3)  # longer than its patience: the connection stands, and nothing comes
                os.kill(first.pid, signal.SIGCONT)
                await watching.more()
            await watching.still()
            with camera(port):
                await watching.more()
        return watching

    assert any("it has sent nothing for 2 s" in problem for problem in asyncio.run(case()).problems)


@pytest.mark.real
def test_the_password_is_taken_from_the_environment_and_is_in_no_message(
    port: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    async def case(right: bool) -> Watching:
        async with Watching(port, login="CAMERA") as watching:
            await (watching.more() if right else asyncio.sleep(4))
        return watching

    with camera(port, "pilot:sw0rd@fish"):
        monkeypatch.setenv("CAMERA", "pilot:wr0ng@fish")
        (problem,) = asyncio.run(case(False)).problems
        assert "wants another user or password" in problem
        monkeypatch.setenv("CAMERA", "pilot:sw0rd@fish")
        assert asyncio.run(case(True)).count >= 3
    assert "fish" not in problem + "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("rtsp://pilot:secret@cam/live", "login"),
        ("http://cam/live", "rtsp://HOST"),
        ("rtsp://", "rtsp://HOST"),
        ("rtsp://cam:99999/x", "rtsp://HOST"),
        ("rtsp://cam/a b", "rtsp://HOST"),
        ("file:///etc/passwd", "rtsp://HOST"),
    ],
)
def test_what_is_no_address_of_a_camera_is_refused_without_repeating_it(url: str, word: str) -> None:
    with pytest.raises(VideoError, match=word) as refused:
        VideoRtsp(url)
    assert "secret" not in str(refused.value)


def test_a_login_that_is_not_there_is_said_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMERA", "secret")
    with pytest.raises(VideoError, match=r"\$CAMERA holds no USER:PASSWORD") as refused:
        VideoRtsp("rtsp://cam/live", login="CAMERA").open(None)  # type: ignore[arg-type]
    assert "secret" not in str(refused.value)


def test_what_is_no_fault_of_the_camera_ends_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> object:
        raise RuntimeError("no memory for a picture")

    monkeypatch.setattr(rtsp, "watched", broken)
    stage = VideoRtsp("rtsp://127.0.0.1:1/live")
    for _ in range(2):  # and again, where the pipeline tries the source a second time
        with pytest.raises(RuntimeError, match="no memory for a picture"):
            asyncio.run(asyncio.wait_for(stage.run(None), 10.0))  # type: ignore[arg-type]
