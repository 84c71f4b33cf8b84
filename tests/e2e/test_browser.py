"""A person in a real browser: their voice goes in through the microphone, the answer comes out of the speaker."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import EXAMPLES, QUESTION, require, require_lab, require_package, write_wav
from tests.e2e.server import MIRROR, PARROT, Server, serve
from tests.netlab import Lab, Link, lab

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

CHROMIUM = shutil.which("chromium")
PATIENCE_MS = 180_000  # on a machine that does much else, too
LEAD_S = 12

# Records what the page plays
RECORD = """
() => {
  const context = new AudioContext({ sampleRate: 16000 });
  const parts = [];
  window.heard = parts;
  const source = context.createMediaStreamSource(document.querySelector('#voice').srcObject);
  const tap = context.createScriptProcessor(4096, 1, 1);
  tap.onaudioprocess = ({ inputBuffer }) => parts.push(new Float32Array(inputBuffer.getChannelData(0)));
  source.connect(tap); tap.connect(context.destination);
}
"""
HEARD = """
() => {
  const all = new Float32Array(window.heard.reduce((sum, part) => sum + part.length, 0));
  window.heard.reduce((at, part) => { all.set(part, at); return at + part.length; }, 0);
  const bytes = new Uint8Array(all.buffer);
  let text = '';
  for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
  return btoa(text);
}
"""


def decoded(path: Path, seconds: float | None = None) -> NDArray[np.float32]:
    resampler = av.AudioResampler(format="flt", layout="mono", rate=48_000)
    with av.open(str(path)) as container:
        frames = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
    samples = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    return samples if seconds is None else samples[: round(seconds * 48_000)]


def transcribed(samples: NDArray[np.float32]) -> str:
    from thalweg.models.speech.sphinx import SphinxRecogniser

    recogniser = SphinxRecogniser()
    recogniser.start()
    recogniser.feed(samples)
    return recogniser.finish()[0]


def alike(answer: str, said: str) -> float:
    """How much of a text is in what a recogniser that mishears one word in six made of it, 0…1, letter by letter."""
    wanted = "".join(letter for letter in answer.lower() if letter.isalpha())
    return SequenceMatcher(None, wanted, said.replace(" ", ""), autojunk=False).ratio()


PERSON = Path("/usr/share/pocketsphinx/test/data/goforward.raw")


@pytest.fixture
def net() -> Iterator[Lab]:
    require_lab()
    with lab("server", "client") as found:
        yield found


@pytest.fixture
def parrot(net: Lab, tmp_path: Path) -> Iterator[Server]:
    file = tmp_path / "parrot.yaml"
    file.write_text(PARROT)
    with serve(net, file, tmp_path / "serve.log", "--sessions", "1") as found:
        yield found


@contextmanager
def browser(server: Server, folder: Path, microphone: Path | None, camera: Path | None = None) -> Iterator[Browser]:
    """Chromium on the client's host, with a recording as its microphone, or without any."""
    require_package("playwright", "dev")
    require(CHROMIUM, "apt-get install chromium")
    from playwright.sync_api import sync_playwright

    start = folder / "chromium"
    start.write_text(f'#!/bin/sh\nexec {" ".join(server.net.client.command([str(CHROMIUM)]))} "$@"\n')
    start.chmod(0o755)
    arguments = [
        "--no-sandbox",
        "--use-fake-ui-for-media-stream",
        "--autoplay-policy=no-user-gesture-required",
        f"--unsafely-treat-insecure-origin-as-secure={server.url.rstrip('/')}",
    ]
    if microphone is not None:
        arguments += ["--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={microphone}"]
    if camera is not None:
        arguments += [f"--use-file-for-fake-video-capture={camera}"]
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=str(start), args=arguments)
        yield found
        found.close()


def opened(chromium: Browser, server: Server) -> Page:
    page = chromium.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(PATIENCE_MS)
    page.goto(server.url)
    return page


def tone(folder: Path) -> Path:
    return write_wav(folder / "tone.wav", 0.3 * np.sin(np.arange(48_000 * 60) * 0.05).astype(np.float32), 48_000)


def question() -> tuple[NDArray[np.float32], set[str]]:
    """A person's (Debian's pocketsphinx-testdata), or where that is missing the synthesized one; what it says."""
    if not PERSON.exists() and os.environ.get("THALWEG_REQUIRE_ALL") != "1":
        return decoded(QUESTION, 3.3), {"capital", "france"}
    require(PERSON.exists(), "apt-get install pocketsphinx-testdata")
    spoken = np.frombuffer(PERSON.read_bytes(), np.int16).astype(np.float32) / 32_768
    return np.repeat(spoken, 3), {"go", "forward", "ten", "meters"}  # 16 to 48 kHz: what that adds is taken out again


@pytest.mark.usefixtures("voice_demo")
def test_a_spoken_question_is_captioned_and_the_answer_is_read_and_heard(net: Lab, tmp_path: Path) -> None:
    lead, rest = (np.zeros(48_000 * seconds, np.float32) for seconds in (LEAD_S, 40))
    spoken, words = question()
    asked = write_wav(tmp_path / "asked.wav", np.concatenate([lead, spoken, rest]), 48_000)
    log = tmp_path / "serve.log"
    with serve(net, EXAMPLES / "voice_chat.yaml", log) as server, browser(server, tmp_path, asked) as chromium:
        page = opened(chromium, server)
        page.click("#inside-button")
        page.click("#start")
        page.wait_for_selector("body[data-phase=talking]")
        page.evaluate(RECORD)
        page.wait_for_selector(".asked .unsure", state="attached")
        page.wait_for_selector(".turn[data-heard=true] .answer:not(:empty)")
        page.wait_for_selector("[data-kind=latency]")
        page.wait_for_timeout(1000)
        heard = np.frombuffer(base64.b64decode(page.evaluate(HEARD)), np.float32)
        answer, caption = page.inner_text("[data-heard=true] .answer"), page.inner_text("[data-heard=true] .asked")
        page.screenshot(path=str(tmp_path / "voice_chat.png"))
        page.click("#start")
        page.wait_for_selector("body[data-phase=ended]")
    said = transcribed(heard)
    found = set(re.findall(r"\w+", caption.lower().replace("10", "ten")))
    assert words <= found, caption
    assert alike(answer, said) > 0.6, f"the answer was {answer!r}, heard was {said!r}"


def test_the_page_comes_back_to_its_conversation_after_the_network_was_gone(parrot: Server, tmp_path: Path) -> None:
    with browser(parrot, tmp_path, tone(tmp_path)) as chromium:
        page = opened(chromium, parrot)
        page.click("#start")
        page.wait_for_selector("body[data-phase=talking]")
        before = parrot.sessions()
        parrot.net.change(Link(outages=((0, 10),)))
        page.wait_for_selector("body[data-phase=away]")
        assert "network is gone" in page.inner_text("#notice-text")
        page.wait_for_selector("body[data-phase=talking]")
        parrot.until(lambda: [s["state"] for s in parrot.sessions()] == ["talking"])
        after = parrot.sessions()
        assert [s["id"] for s in after] == [s["id"] for s in before]
        assert after[0]["reconnects"] == 1


def test_without_a_microphone_the_page_says_so_and_one_can_write(parrot: Server, tmp_path: Path) -> None:
    with browser(parrot, tmp_path, None) as chromium:
        page = opened(chromium, parrot)
        page.click("#start")
        page.wait_for_selector("body[data-phase=talking]")
        page.wait_for_selector("#notice[data-code=no-microphone]")
        assert "write your question" in page.inner_text("#notice-text")
        assert page.is_enabled("#text")


def test_who_finds_the_server_busy_gets_in_when_somebody_leaves(parrot: Server, tmp_path: Path) -> None:
    with browser(parrot, tmp_path, tone(tmp_path)) as chromium:
        first, second = opened(chromium, parrot), opened(chromium, parrot)
        first.click("#start")
        first.wait_for_selector("body[data-phase=talking]")
        second.click("#start")
        second.wait_for_selector("#notice[data-code=busy]")
        first.click("#start")
        parrot.until(lambda: not parrot.sessions())
        second.click("#notice-act")
        second.wait_for_selector("body[data-phase=talking]")


def test_the_page_tries_again_by_itself_where_many_are_connecting(parrot: Server, tmp_path: Path) -> None:
    told: list[str] = []

    def crowded(route: Route) -> None:
        if len(told) == 2:
            route.continue_()
            return
        told.append(route.request.method)
        crowd = {"error": "connecting", "message": "Many are connecting just now."}
        route.fulfill(status=503, headers={"Retry-After": "1"}, json=crowd)

    with browser(parrot, tmp_path, tone(tmp_path)) as chromium:
        page = opened(chromium, parrot)
        page.route("**/offer", crowded)
        page.click("#start")
        page.wait_for_selector("#notice[data-code=connecting]")
        page.wait_for_selector("body[data-phase=talking]")
        assert told == ["POST", "POST"] and not page.is_visible("#notice")


def test_a_server_that_is_gone_is_named_and_the_page_can_be_used_by_keyboard(parrot: Server, tmp_path: Path) -> None:
    with browser(parrot, tmp_path, tone(tmp_path)) as chromium:
        page = opened(chromium, parrot)
        parrot.process.kill()
        time.sleep(0.5)
        page.focus("#start")
        page.keyboard.press("Enter")
        page.wait_for_selector("#notice[data-code=unreachable]")
        assert page.get_attribute("#notice", "role") == "alert"


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
