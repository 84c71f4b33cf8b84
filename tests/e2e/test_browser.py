"""A person in a real browser: their voice goes in through the microphone, the answer comes out of the speaker."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import EXAMPLES, QUESTION, require, require_package, write_wav
from tests.e2e.netns import Wire, wire
from tests.e2e.server import Server, serve

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = shutil.which("chromium")
PATIENCE_MS = 60_000
LEAD_S = 6

# Records what the page plays, from the first answer to a second after the last one
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
    from thalweg.models.sphinx import SphinxRecogniser

    recogniser = SphinxRecogniser()
    recogniser.start()
    recogniser.feed(samples)
    return recogniser.finish()[0]


@pytest.fixture(scope="module")
def ends() -> Iterator[Wire]:
    with wire("thwb") as found:
        yield found


@pytest.fixture
def server(voice_demo: None, ends: Wire, tmp_path: Path) -> Iterator[Server]:
    with serve(ends, EXAMPLES / "voice_chat.yaml", tmp_path / "serve.log") as found:
        yield found


@pytest.fixture
def microphone(tmp_path: Path) -> Path:
    """The first question of the recording, once the page has had time to connect."""
    lead, rest = (np.zeros(48_000 * seconds, np.float32) for seconds in (LEAD_S, 60))
    return write_wav(tmp_path / "microphone.wav", np.concatenate([lead, decoded(QUESTION, 3.3), rest]), 48_000)


@pytest.fixture
def page(server: Server, microphone: Path, tmp_path: Path) -> Iterator[Page]:
    require_package("playwright", "dev")
    require(CHROMIUM, "apt-get install chromium")
    from playwright.sync_api import sync_playwright

    browser = tmp_path / "chromium"
    browser.write_text(f'#!/bin/sh\nexec ip netns exec {server.ends.client} {CHROMIUM} "$@"\n')
    browser.chmod(0o755)
    arguments = [
        "--no-sandbox",
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={microphone}%noloop",
        "--autoplay-policy=no-user-gesture-required",
        f"--unsafely-treat-insecure-origin-as-secure={server.url.rstrip('/')}",
    ]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(browser), args=arguments)
        found = chromium.new_page(viewport={"width": 1280, "height": 800})
        found.set_default_timeout(PATIENCE_MS)
        found.goto(server.url)
        yield found
        chromium.close()


def test_a_spoken_question_is_captioned_and_the_answer_is_read_and_heard(page: Page) -> None:
    page.click("#inside-button")
    page.click("#start")
    page.wait_for_selector("body[data-phase=talking]")
    page.evaluate(RECORD)
    page.wait_for_selector(".asked .unsure", state="attached")
    page.wait_for_selector(".asked[data-final=true]")
    page.wait_for_selector("[data-kind=latency]")
    page.wait_for_selector(".turn[data-heard=true]")
    page.wait_for_timeout(1000)
    heard = np.frombuffer(base64.b64decode(page.evaluate(HEARD)), np.float32)
    answer = page.inner_text(".answer")
    said = transcribed(heard)
    words = {word.strip(".,!?").lower() for word in answer.split()}
    assert "capital of france" in page.inner_text(".asked")
    assert "Paris" in answer
    assert len(words & set(said.split())) >= len(words) / 2, f"the answer was {answer!r}, heard was {said!r}"
    page.click("#start")
    page.wait_for_selector("body[data-phase=ended]")
