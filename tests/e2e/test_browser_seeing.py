"""What a camera shows goes into a real browser, through the pipeline, and comes back."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from tests.conftest import EXAMPLES, require_package
from tests.e2e.server import MIRROR, serve
from tests.e2e.test_browser import browser, net, opened, tone
from tests.netlab import Lab

__all__ = ["net"]  # the fixture

# The colour in the middle of what the page shows
COLOUR = """
() => {
  const video = document.querySelector('#screen'), canvas = document.createElement('canvas');
  canvas.width = canvas.height = 1;
  canvas.getContext('2d').drawImage(video, video.videoWidth / 2, video.videoHeight / 2, 1, 1, 0, 0, 1, 1);
  return [...canvas.getContext('2d').getImageData(0, 0, 1, 1).data].slice(0, 3);
}
"""


def red(folder: Path) -> Path:
    """A camera that shows red."""
    return shown(folder, np.full((240, 320), 82, np.uint8), 90, 240)


def stripes(folder: Path) -> Path:
    """A camera that shows stripes of two pixels everywhere."""
    return shown(folder, np.tile(np.array([40, 40, 200, 200], np.uint8), (240, 80)), 128, 128)


def shown(folder: Path, luma: NDArray[np.uint8], blue: int, red: int) -> Path:
    """YUV4MPEG2, 320×240."""
    planes = [luma, np.full(160 * 120, blue, np.uint8), np.full(160 * 120, red, np.uint8)]
    frame = b"FRAME\n" + b"".join(plane.tobytes() for plane in planes)
    camera = folder / "camera.y4m"
    camera.write_bytes(b"YUV4MPEG2 W320 H240 F30:1 Ip A1:1 C420\n" + frame * 30)
    return camera


def test_what_the_camera_shows_comes_back_through_the_pipeline(net: Lab, tmp_path: Path) -> None:
    file = tmp_path / "mirror.yaml"
    file.write_text(MIRROR)
    with (
        serve(net, file, tmp_path / "serve.log") as server,
        browser(server, tmp_path, tone(tmp_path), red(tmp_path)) as chromium,
    ):
        page = opened(chromium, server)
        page.click("#camera")
        page.click("#start")
        page.wait_for_selector("#preview", state="visible")
        page.wait_for_selector("#seen", state="visible")
        page.wait_for_function("() => document.querySelector('#screen').videoWidth > 0")
        page.wait_for_function(f"() => {{ const [r, g, b] = ({COLOUR})(); return r > 180 && g < 80 && b < 80; }}")


# Looks where a file says, asks for a picture that is sharp only there, and shows what comes of it
LOOKS = """
name: looks
stages:
  microphone: {use: live.microphone}
  speaker: {use: live.speaker}
  camera: {use: live.camera, rate: 8, soften: true}
  regions: {use: vision.regions, policy: oracle, oracle: REGIONS, signal: true}
  encoder: {use: video.encode, bitrate: 2000000, method: none}
  screen: {use: live.screen}
connections:
  - microphone -> speaker
  - {from: camera, to: regions.frame, policy: latest}
  - {from: camera, to: encoder.frame, policy: latest}
  - regions -> encoder.regions
  - encoder -> screen
"""

# How much neighbours differ in what came back, around a point
DETAIL = """
(x, y) => {
  const video = document.querySelector('#screen'), canvas = document.createElement('canvas'), side = 24;
  canvas.width = canvas.height = side;
  const context = canvas.getContext('2d');
  const left = x * video.videoWidth - side / 2, top = y * video.videoHeight - side / 2;
  context.drawImage(video, left, top, side, side, 0, 0, side, side);
  const values = [...context.getImageData(0, 0, side, side).data].filter((_, i) => i % 4 === 1);
  return Math.max(...values) - Math.min(...values);
}
"""


SEEN_IN_A_MIRROR = "The machine looks at the upper right"


def test_the_page_shows_where_the_machine_looks_and_sends_sharp_only_that(net: Lab, tmp_path: Path) -> None:
    file = tmp_path / "looks.yaml"
    file.write_text(LOOKS.replace("REGIONS", str(tmp_path / "regions.jsonl")))
    (tmp_path / "regions.jsonl").write_text('{"time_ms": 0, "boxes": [[0.1, 0.1, 0.3, 0.3, 1.0]]}\n')
    with (
        serve(net, file, tmp_path / "serve.log") as server,
        browser(server, tmp_path, tone(tmp_path), stripes(tmp_path)) as chromium,
    ):
        page = opened(chromium, server)
        page.click("#camera")
        page.click("#start")
        page.wait_for_selector("#look-button", state="visible")
        assert page.locator("#marks rect").count() == 0
        page.focus("#look-button")
        page.keyboard.press("Enter")
        page.wait_for_selector("#marks rect[x='0.1000'][width='0.3000']", state="attached")
        page.wait_for_function(f"() => document.querySelector('#look-words').textContent === {SEEN_IN_A_MIRROR!r}")
        page.wait_for_function(f"() => ({DETAIL})(0.25, 0.25) > 100 && ({DETAIL})(0.75, 0.75) < 40")
        page.screenshot(path=str(tmp_path / "looks.png"))
        page.click("#look-button")
        assert page.locator("#marks rect").count() == 0 and page.inner_text("#look-words") == ""


# A model server that writes down what it is asked
MODEL_SERVER = """
import asyncio, json, sys
from pathlib import Path
from thalweg.deploy.bench.language.modelserver import ModelServer

async def main():
    async with ModelServer("A red wall.") as server:
        Path(sys.argv[1]).write_text(server.url)
        while True:
            await asyncio.sleep(0.1)
            Path(sys.argv[2]).write_text(json.dumps(server.asked))

asyncio.run(main())
"""


@contextmanager
def model_server(net: Lab, folder: Path) -> Iterator[tuple[str, Path]]:
    """On the host of the server: its address, and where it writes what it is asked."""
    url, asked = folder / "url", folder / "asked.json"
    process = net.server.python("-c", MODEL_SERVER, url, asked)
    try:
        deadline = time.monotonic() + 60
        while not url.exists() or not url.read_text():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        yield url.read_text(), asked
    finally:
        process.kill()
        process.wait()


def test_a_model_that_looks_at_pictures_is_shown_what_the_camera_of_who_asks_shows(net: Lab, tmp_path: Path) -> None:
    require_package("cv2", "video")
    with model_server(net, tmp_path) as (url, asked):
        settings = {"llm_url": url, "model": "m", "images": "true", "recogniser": "pocketsphinx"}
        options = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
        with (
            serve(net, EXAMPLES / "video_chat.yaml", tmp_path / "serve.log", *options) as server,
            browser(server, tmp_path, tone(tmp_path), red(tmp_path)) as chromium,
        ):
            page = opened(chromium, server)
            page.click("#camera")
            page.click("#start")
            page.wait_for_selector("#seen", state="visible")
            page.click("#mute")
            page.fill("#text", "What do you see?")
            page.press("#text", "Enter")
            page.wait_for_selector(".answer:has-text('A red wall.')")
        (last,) = [json.loads(asked.read_text())[-1]["messages"][-1]]
    words, picture = last["content"]
    assert words == {"type": "text", "text": "What do you see?"}
    jpeg = base64.b64decode(picture["image_url"]["url"].removeprefix("data:image/jpeg;base64,"), validate=True)
    with av.open(io.BytesIO(jpeg), format="jpeg_pipe") as container:
        pixels = next(container.decode(video=0)).to_ndarray(format="rgb24")
    red_, green, blue = pixels.reshape(-1, 3).mean(axis=0)
    assert red_ > 180 and max(green, blue) < 80
