"""What looking costs in a conversation: processor time of the server and of a real browser with a camera.

A headless Chromium, its camera a composed scene of 640×480 at 10 frames a second, talks to `thalweg serve` on this
machine: a pipeline that only reads what the camera shows, the same with regions and rate control, and with a picture
that is sharp only there. Processor time is counted over some seconds, of all processes of either side; a machine that
is busy with other things slows both down but counts the same.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from thalweg.deploy.bench.ports import free_port
from thalweg.deploy.bench.video.scenes import HEIGHT, RATE, WIDTH, compose
from thalweg.models.speech.wav import write_wav

READY_S = 90.0
SETTLE_S = 6.0

_PLAIN = """
name: chat
stages:
  microphone: {use: live.microphone}
  speaker: {use: live.speaker}
  camera: {use: live.camera, rate: 10, soften: SOFTEN}
  reader: {use: vision.read, every: 1s}
"""
_LOOKING = """
  regions: {use: vision.regions, question: "What does the label say?", understand: rules, signal: true}
  control: {use: video.control, encoder: camera, threshold: 0.93}
"""
_CONNECTIONS = """
connections:
  - microphone -> speaker
  - {from: camera, to: reader, policy: latest}
"""
_LOOKS = """
  - {from: camera, to: regions.frame, policy: latest}
  - reader -> control.detections
"""
PIPELINES = {
    "plain": _PLAIN.replace("SOFTEN", "false") + _CONNECTIONS,
    "regions": _PLAIN.replace("SOFTEN", "false") + _LOOKING + _CONNECTIONS + _LOOKS,
    "soften": _PLAIN.replace("SOFTEN", "true") + _LOOKING + _CONNECTIONS + _LOOKS,
}


_CAMERA = """
() => [...document.querySelectorAll('#stages tbody tr')].map((row) => [...row.children].map((cell) => cell.textContent))
  .filter(([name]) => name === 'camera').map(([, rate]) => Number(rate))
"""


def missing() -> str | None:
    """What is needed and not there, for people; None where all is."""
    if shutil.which("chromium") is None:
        return "chromium (apt-get install chromium)"
    try:
        import playwright  # noqa: F401
    except ImportError:
        return "playwright (pip install playwright)"
    return None


def shares(seconds: float) -> dict[str, dict[str, float]]:
    """Pipeline → per cent of a processor that the `server` and the `browser` take, and `frames` a second that came."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _camera(folder / "camera.y4m")
        _silence(folder / "silence.wav")
        found = {}
        for which, text in PIPELINES.items():
            (folder / "chat.yaml").write_text(text, encoding="utf-8")
            with _served(folder / "chat.yaml") as (server, url), _browser(folder) as chromium:
                found[which] = _watch(chromium, server.pid, url, seconds)
        return found


def _watch(chromium: Any, server: int, url: str, seconds: float) -> dict[str, float]:
    page = chromium.new_page()
    page.goto(url)
    page.click("#camera")
    page.click("#start")
    page.wait_for_selector("body[data-phase=talking]", timeout=60_000)
    page.wait_for_timeout(1000 * SETTLE_S)
    before = _processor_s(server), _processor_s(os.getpid(), besides=server), time.monotonic()
    page.wait_for_timeout(1000 * seconds)
    after = _processor_s(server), _processor_s(os.getpid(), besides=server), time.monotonic()
    span = after[2] - before[2]
    frames = _frames_per_s(page)
    page.click("#start")
    return {
        "server": 100 * (after[0] - before[0]) / span,
        "browser": 100 * (after[1] - before[1]) / span,
        "frames": frames,
    }


def _frames_per_s(page: Any) -> float:
    """What the camera's stage gives, as the page shows it: the mean of some reports."""
    page.click("#inside-button")
    seen = []
    for _ in range(12):
        page.wait_for_timeout(250)
        seen += page.evaluate(_CAMERA)
    return sum(seen) / len(seen) if seen else 0.0


@contextmanager
def _served(file: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    port = free_port()
    command = [sys.executable, "-m", "thalweg.deploy", "serve", str(file), "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/"
    try:
        deadline = time.monotonic() + READY_S
        while not _ready(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"thalweg serve did not become ready at {url}")
            time.sleep(0.2)
        yield process, url
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url + "readyz", timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def _browser(folder: Path) -> Iterator[Any]:  # Any: playwright, which may be absent
    from playwright.sync_api import sync_playwright

    arguments = [
        "--no-sandbox",
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        "--autoplay-policy=no-user-gesture-required",
        f"--use-file-for-fake-audio-capture={folder / 'silence.wav'}",
        f"--use-file-for-fake-video-capture={folder / 'camera.y4m'}",
    ]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        yield chromium
        chromium.close()


def _processor_s(root: int, besides: int | None = None) -> float:
    """Seconds of processor time of a process and all below it that live, without itself where `besides` is given.

    Of `root` with `besides` only the children count, and of those not `besides`: our own time is not the browser's.
    """
    parents: dict[int, tuple[int, float]] = {}
    tick = os.sysconf("SC_CLK_TCK")
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1]), (int(fields[11]) + int(fields[12])) / tick
    counted, total = [root], 0.0
    while counted:
        pid = counted.pop()
        if pid == besides:
            continue
        if not (besides is not None and pid == root) and pid in parents:
            total += parents[pid][1]
        counted += [child for child, (parent, _) in parents.items() if parent == pid]
    return total


def _camera(path: Path) -> None:
    """A scene as YUV4MPEG2."""
    import av

    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F{round(RATE)}:1 Ip A1:1 C420jpeg\n".encode())
        for pixels in compose(902).frames:
            planes = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format="yuvj420p").to_ndarray()
            file.write(b"FRAME\n" + planes.astype(np.uint8).tobytes())


def _silence(path: Path) -> None:
    write_wav(path, np.zeros(48_000, np.float32), 48_000)
