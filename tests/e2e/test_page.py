"""The page in each of its states: what it says is true, it is reached by everybody (axe-core), and it fits."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.conftest import require_model, require_package, write_wav
from tests.e2e.axe import looks
from tests.e2e.server import ECHO, PARROT, Server, serve
from tests.e2e.test_browser import PATIENCE_MS, browser, net, opened
from tests.netlab import Lab

if TYPE_CHECKING:
    from playwright.sync_api import Page

SIZES = {"desktop": (1280, 800), "phone": (390, 844), "narrow": (320, 568), "landscape": (844, 390)}
__all__ = ["net"]  # the fixture


def echo_file(folder: Path) -> Path:
    """A pipeline that says back what it is asked."""
    require_package("pocketsphinx", "demo")
    require_package("piper", "demo")
    require_model("silero-vad")
    require_model("piper-en-us-joe")
    file = folder / "echo.yaml"
    file.write_text(ECHO, encoding="utf-8")
    return file


@pytest.fixture
def echo(net: Lab, tmp_path: Path) -> Iterator[Server]:
    """A server that one can write to."""
    with serve(net, echo_file(tmp_path), tmp_path / "serve.log") as found:
        yield found


def check(page: Page, what: str) -> None:
    """Every size in light and dark: nothing that axe-core knows to be wrong, and no scrolling of the page."""
    for look in looks(page, SIZES, what):
        over = "[document.documentElement.scrollWidth - innerWidth, document.body.scrollHeight - innerHeight]"
        assert max(page.evaluate(over)) <= 0, look


def test_one_can_write_without_a_microphone_and_every_state_is_true_and_open_to_everybody(
    echo: Server, tmp_path: Path
) -> None:
    require_package("axe_playwright_python", "dev")
    with browser(echo, tmp_path, None) as chromium:
        page = opened(chromium, echo)
        check(page, "idle")
        page.click("#ideas button >> nth=0")
        page.wait_for_selector(".answer:has-text('capital of France')")
        page.wait_for_selector("#state:has-text('Write your question')")
        assert page.is_hidden("#mute") and page.is_visible("#speak")
        assert page.locator("#said p").all_text_contents() == [
            "You: What is the capital of France?",
            "Answer: What is the capital of France?",
        ]
        check(page, "written")
        page.click("#speak")
        page.wait_for_selector("#notice[data-code=no-microphone]")
        check(page, "no microphone")
        page.click("#notice-close")
        assert page.is_hidden("#notice") and page.get_attribute("body", "data-phase") == "talking"
        page.click("#save-button")
        check(page, "saving")
        with page.expect_download() as downloaded:
            page.click("#saving [value=json]")
        saved = json.loads(Path(downloaded.value.path()).read_text(encoding="utf-8"))
        assert [(turn["asked"], turn["answer"]) for turn in saved["turns"]] == [("What is the capital of France?",) * 2]
        page.click("#start")
        page.wait_for_selector("body[data-phase=ended]")
        page.fill("#text", "Again?")
        page.press("#text", "Enter")
        page.wait_for_selector(".answer:has-text('Again?')")
        assert page.locator(".turn").count() == 2, "what was said before stays"
        assert page.locator(".divider").count() == 1
        page.fill("#text", " ".join(f"Is {number} more than {number * number}?" for number in range(3, 60)))
        page.press("#text", "Enter")
        page.wait_for_selector("body[data-floor=speaking]")
        check(page, "answering")
        assert page.get_attribute("body", "data-floor") == "speaking"


def test_one_can_hold_a_key_to_speak_see_the_level_and_turn_the_volume(net: Lab, tmp_path: Path) -> None:
    tone = (0.3 * np.sin(np.arange(48_000 * 4) * 0.05)).astype(np.float32)
    file = tmp_path / "parrot.yaml"
    file.write_text(PARROT, encoding="utf-8")
    microphone = write_wav(tmp_path / "tone.wav", tone, 48_000)
    with serve(net, file, tmp_path / "serve.log") as server, browser(server, tmp_path, microphone) as chromium:
        page = opened(chromium, server)
        page.click("#settings-button")
        page.check("#hold")
        page.fill("#volume", "40")
        check(page, "devices")
        page.set_viewport_size({"width": 1280, "height": 800})
        page.click("#settings .solid")
        page.click("#start")
        page.wait_for_selector("#mute[aria-pressed=true]:has-text('Hold to speak')")
        for pressed in ("false", "true"):
            (page.keyboard.down if pressed == "false" else page.keyboard.up)("Space")
            page.wait_for_selector(f"#mute[aria-pressed={pressed}]")
        assert page.get_attribute("body", "data-phase") == "talking", "the key has pressed no button"
        check(page, "listening")
        assert page.evaluate("document.getElementById('voice').volume") == pytest.approx(0.4)
        page.click("#settings-button")
        page.wait_for_function("() => /^-[0-9]+ dB$/.test(document.getElementById('level-value').textContent)")
        page.uncheck("#hold")
        page.wait_for_selector("#mute[aria-pressed=false]:has-text('Mute')")


def kept_file(folder: Path) -> Path:
    """A pipeline that writes down what it hears."""
    file = folder / "kept.yaml"
    ear = f"  ear: {{use: sink.audio, path: {folder / 'heard.wav'}}}\nconnections:\n  - microphone -> ear\n"
    file.write_text(PARROT.replace("connections:\n", ear), encoding="utf-8")
    return file


def test_what_is_kept_is_said_before_a_conversation_begins_and_while_it_goes_on(net: Lab, tmp_path: Path) -> None:
    with serve(net, kept_file(tmp_path), tmp_path / "serve.log") as server, browser(server, tmp_path, None) as chromium:
        page = opened(chromium, server)
        page.wait_for_selector(
            "#kept[data-kept=true]:has-text('sound, in a file (ear). By starting you agree to that.')"
        )
        check(page, "idle")
        for width, height in SIZES.values():
            page.set_viewport_size({"width": width, "height": height})
            place = page.locator("#kept").bounding_box()
            assert place is not None and place["y"] >= 0 and place["y"] + place["height"] <= height
        page.fill("#text", "Hello?")
        page.press("#text", "Enter")
        page.wait_for_selector("body[data-phase=talking]")
        assert page.is_visible("#kept")


def test_nobody_begins_a_conversation_that_is_kept_without_having_been_told(net: Lab, tmp_path: Path) -> None:
    plain = tmp_path / "plain.yaml"
    plain.write_text(PARROT, encoding="utf-8")
    with serve(net, plain, tmp_path / "first.log") as first, browser(first, tmp_path, None) as chromium:
        page = opened(chromium, first)
        assert page.is_hidden("#kept")
        first.process.kill()
        first.process.wait()
        with serve(net, kept_file(tmp_path), tmp_path / "second.log"):
            page.click("#start")
            page.wait_for_selector("#notice[data-code=kept]")
            assert page.get_attribute("body", "data-phase") == "idle" and page.is_visible("#kept")
            page.click("#notice-act")
            page.wait_for_selector("body[data-phase=talking]")


def test_a_server_that_hangs_is_noticed_and_one_that_stops_or_comes_back_says_so(
    echo: Server, net: Lab, tmp_path: Path
) -> None:
    with browser(echo, tmp_path, None) as chromium:
        page = opened(chromium, echo)
        page.fill("#text", "Hello?")
        page.press("#text", "Enter")
        page.wait_for_selector(".answer:has-text('Hello?')")
        echo.process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        page.wait_for_selector("#notice[data-code=stalled]")
        took = time.monotonic() - began
        echo.process.send_signal(signal.SIGCONT)
        page.wait_for_selector("#notice", state="hidden", timeout=PATIENCE_MS)
        assert took < 4.0, "2 s on a machine that does nothing else"
        echo.process.send_signal(signal.SIGINT)
        page.wait_for_selector("#notice[data-code=closing]")
        assert "about to stop" in page.inner_text("#notice-text")
        check(page, "draining")


def test_a_server_that_was_started_anew_says_that_the_conversation_is_lost(net: Lab, tmp_path: Path) -> None:
    file = echo_file(tmp_path)
    with serve(net, file, tmp_path / "first.log") as first, browser(first, tmp_path, None) as chromium:
        page = opened(chromium, first)
        page.fill("#text", "Hello?")
        page.press("#text", "Enter")
        page.wait_for_selector(".answer:has-text('Hello?')")
        first.process.kill()
        page.wait_for_selector("#notice[data-code=away]")
        check(page, "lost")
        with serve(net, file, tmp_path / "second.log"):
            page.wait_for_selector("#notice[data-code=restarted]")
            assert "started anew" in page.inner_text("#notice-text")
            assert page.locator(".turn").count() == 1, "what was said stays on the page"
