"""What a person does with answers at the page: sets how they are spoken, hears them again, takes them along."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.conftest import require_package, write_wav
from tests.e2e.server import ECHO, Server, serve
from tests.e2e.test_browser import PATIENCE_MS, browser, net, opened
from tests.e2e.test_page import SIZES, check, echo_file
from tests.netlab import Lab

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["net"]  # the fixture

OFFERS = """
preferences:
  voice.speed: {label: Speed of speech, from: 0.5, to: 2, step: 0.1, unit: ×}
  chat.first: {label: Who answers, values: {"": either, one: One, other: Other}}
stages:"""
POOL = "backends: {one: {backend: echo}, other: {backend: echo}}"
QUESTION = "The river flows fastest where it is deepest, and slowest near its banks."
SPEED = "[data-name='voice.speed'] input"

# The length of what is kept of an answer, and how loud it is
KEPT = """
async (i) => {
  const button = document.querySelectorAll('.again')[i];
  const made = new Promise((resolve) => {
    const before = URL.createObjectURL;
    URL.createObjectURL = (blob) => { URL.createObjectURL = before; resolve(blob); return before.call(URL, blob); };
  });
  button.click();
  const sound = await new AudioContext().decodeAudioData(await (await made).arrayBuffer());
  const samples = sound.getChannelData(0);
  return { seconds: sound.duration, loud: Math.sqrt(samples.reduce((sum, s) => sum + s * s, 0) / samples.length) };
}
"""


def offering(folder: Path) -> Path:
    file = echo_file(folder)
    file.write_text(ECHO.replace("\nstages:", OFFERS, 1).replace("backend: echo", POOL), encoding="utf-8")
    return file


def ask(page: Page, text: str, answers: int) -> None:
    """In writing; waits until it was heard to its end."""
    page.fill("#text", text)
    page.press("#text", "Enter")
    page.wait_for_function(
        f"() => document.querySelectorAll('.turn[data-heard=true] .again:not([hidden])').length === {answers}"
    )


def test_answers_are_spoken_as_fast_as_was_set_heard_again_and_saved_as_subtitles(net: Lab, tmp_path: Path) -> None:
    require_package("axe_playwright_python", "dev")
    with serve(net, offering(tmp_path), tmp_path / "serve.log") as server, browser(server, tmp_path, None) as chromium:
        page = opened(chromium, server)
        ask(page, QUESTION, 1)
        page.click("#settings-button")
        page.locator(SPEED).fill("2")
        page.wait_for_selector("#preferences p:has-text('Speed of speech: 2 ×')")
        page.select_option("[data-name='chat.first'] select", "other")
        page.wait_for_selector("#preferences p:has-text('Who answers: Other')")
        check(page, "preferences")
        page.click("#settings .solid")
        ask(page, QUESTION, 2)
        usual, fast = (page.evaluate(KEPT, i) for i in range(2))
        assert 1.5 < usual["seconds"] / fast["seconds"] < 2.5, "the voice, without the silence around it"
        assert min(usual["loud"], fast["loud"]) > 0.01
        page.wait_for_selector(".again[aria-label=Stop]")
        check(page, "playing again")
        saved = subtitles(page)
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.click("#save-button")
        page.click("#saving [value=copy]")
        page.wait_for_selector("#save-button:has-text('Copied')")
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied.startswith(f"You: {QUESTION}\nIt: {QUESTION}\n\nYou: ")
        page.click("#start")
        page.wait_for_selector("body[data-phase=ended]")
        ask(page, "Yes.", 3)
        page.click("#settings-button")
        page.wait_for_selector("#preferences p:has-text('Who answers: Other')")
        assert page.input_value(SPEED) == "2", "what was set is set in the next conversation, too"
    assert [(cue["who"], cue["text"]) for cue in saved] == [("You", QUESTION), ("It", QUESTION)] * 2
    lengths = [cue["to"] - cue["from"] for cue in saved]
    assert lengths[1] == pytest.approx(usual["seconds"], abs=1.0)
    assert lengths[3] == pytest.approx(fast["seconds"], abs=1.0)
    assert saved[0]["from"] <= saved[1]["from"] < saved[2]["from"] <= saved[3]["from"]


def subtitles(page: Page) -> list[dict[str, Any]]:
    """As a browser reads them."""
    page.click("#save-button")
    with page.expect_download() as downloaded:
        page.click("#saving [value=subtitles]")
    text = Path(downloaded.value.path()).read_text(encoding="utf-8")
    cues = page.evaluate(
        """async (text) => {
          const video = document.createElement('video'), track = document.createElement('track');
          track.src = URL.createObjectURL(new Blob([text], { type: 'text/vtt' }));
          video.append(track); document.body.append(video); track.track.mode = 'hidden';
          await new Promise((resolve, reject) => { track.onload = resolve; track.onerror = reject; });
          video.remove();
          return [...track.track.cues].map((cue) => ({ from: cue.startTime, to: cue.endTime, html: cue.text }));
        }""",
        text,
    )
    for cue in cues:
        found = re.fullmatch(r"<v (You|It)>(.*)", cue["html"])
        assert found, cue
        cue["who"], cue["text"] = found[1], found[2]
    return list(cues)


def test_the_microphone_does_not_hear_an_answer_that_is_heard_again(net: Lab, tmp_path: Path) -> None:
    quiet = write_wav(tmp_path / "quiet.wav", np.zeros(48_000 * 60, np.float32), 48_000)
    with serve(net, offering(tmp_path), tmp_path / "serve.log") as server, browser(server, tmp_path, quiet) as chromium:
        page = opened(chromium, server)
        page.evaluate(
            """() => {
              const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
              navigator.mediaDevices.getUserMedia = async (wish) => (window.microphone = await open(wish));
            }"""
        )
        page.click("#start")
        page.wait_for_selector("body[data-phase=talking]")
        ask(page, QUESTION, 1)
        hears = "() => window.microphone.getAudioTracks()[0].enabled"
        assert page.evaluate(hears)
        page.click(".again")
        page.wait_for_selector(".again[aria-label=Stop]")
        assert not page.evaluate(hears)
        page.wait_for_selector(".again[aria-label='Hear this answer again']")
        assert page.evaluate(hears)
        page.click("#mute")
        page.click(".again")
        page.wait_for_selector(".again[aria-label=Stop]")
        page.keyboard.press("Escape")
        page.wait_for_selector(".again[aria-label='Hear this answer again']")
        assert not page.evaluate(hears), "who was muted stays so"


BOUNDED = """
async () => {
  const { Replay } = await import('./web/replay.js');
  const context = new AudioContext(), tone = new OscillatorNode(context), out = context.createMediaStreamDestination();
  tone.connect(out); tone.start();
  const replay = new Replay(100_000), said = [];
  await replay.listen();
  replay.attach(out.stream);
  for (const what of ['kept', 'dropped']) replay.addEventListener(what, ({ detail }) => said.push(`${what} ${detail}`));
  for (const [name, ms] of [['one', 600], ['two', 600], ['long', 3500], ['four', 600]]) {
    replay.begin(name);
    await new Promise((resolve) => setTimeout(resolve, ms));
    replay.end(name);
    await new Promise((resolve) => setTimeout(resolve, 700));
  }
  return { said, bytes: replay.bytes, sizes: [...replay.kept.values()].reduce((sum, blob) => sum + blob.size, 0) };
}
"""


def test_what_the_page_keeps_of_answers_is_bounded_and_the_oldest_go(net: Lab, tmp_path: Path) -> None:
    with serve(net, echo_file(tmp_path), tmp_path / "serve.log") as server, browser(server, tmp_path, None) as chromium:
        page = opened(chromium, server)
        found = page.evaluate(BOUNDED)
    assert found["bytes"] == found["sizes"] <= 100_000
    assert found["said"].index("kept one") < found["said"].index("dropped one") < found["said"].index("kept four")


TOO_SMALL = """
() => [...document.querySelectorAll('button, select, input, summary, a')].flatMap((each) => {
  const target = each.type === 'checkbox' ? each.closest('label') : each;
  const { width, height } = target.getBoundingClientRect();
  if (!width || !each.checkVisibility({ visibilityProperty: true })) return [];
  return width < 43.9 || height < 43.9 ? [`${each.id || each.className || each.value} ${width}×${height}`] : [];
})
"""


def small(page: Page) -> list[str]:
    """What a finger would miss, in every size."""
    found = []
    for width, height in SIZES.values():
        page.set_viewport_size({"width": width, "height": height})
        found += [f"{width}×{height}: {each}" for each in page.evaluate(TOO_SMALL)]
    return found


def touched(chromium: Browser, server: Server) -> Page:
    page = chromium.new_context(has_touch=True, is_mobile=True, viewport={"width": 390, "height": 844}).new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(server.url)
    return page


def test_everything_one_can_touch_is_large_enough(net: Lab, tmp_path: Path) -> None:
    with serve(net, offering(tmp_path), tmp_path / "serve.log") as server, browser(server, tmp_path, None) as chromium:
        page = touched(chromium, server)
        page.wait_for_selector("#preferences", state="attached")
        assert small(page) == []
        ask(page, "Yes.", 1)
        assert small(page) == []
        page.click("#inside-button")
        assert small(page) == []
        for button, dialog in (("#settings-button", "#settings"), ("#save-button", "#saving")):
            page.click(button)
            assert small(page) == []
            page.click(f"{dialog} .solid")
        page.click("#speak")
        page.wait_for_selector("#notice[data-code=no-microphone]")
        assert small(page) == []


VTT = """
async (turns) => (await import('./web/saving.js')).asSubtitles('A --> B', turns)
"""


def test_subtitles_hold_what_was_heard_cut_into_what_can_be_read(net: Lab, tmp_path: Path) -> None:
    answer = " ".join(f"This is sentence number {i} of a long answer." for i in range(8))
    times = ([0, 900], [2000, 22_000]), ([3_600_000, 3_600_500], [3_601_000, 3_601_100]), ([3_700_000], None)
    said = ("1 < 2 && <b>?", answer, answer), ("Stop", "Cut short here.", "Cut"), ("x" * 300, "Never heard.", "")
    turns = [
        {"asked": asked, "answer": answer, "heard": heard, "times": {"asked": when[0], "answer": when[1]}}
        for (asked, answer, heard), when in zip(said, times, strict=True)
    ]
    with serve(net, echo_file(tmp_path), tmp_path / "serve.log") as server, browser(server, tmp_path, None) as chromium:
        made = opened(chromium, server).evaluate(VTT, turns)
    head, *cues = made.split("\n\n")
    assert head == "WEBVTT - A → B"
    assert cues[0] == "1\n00:00:00.000 --> 00:00:01.000\n<v You>1 &lt; 2 &amp;&amp; &lt;b&gt;?"
    assert cues[1].startswith("2\n00:00:02.000 --> ") and cues[8].split("\n")[1].endswith(" --> 00:00:22.000")
    assert all(len(cue.split(">", 2)[2]) <= 84 for cue in cues[1:9])
    assert cues[10] == "11\n01:00:01.000 --> 01:00:02.000\n<v It>Cut"
    assert "Never heard" not in made and json.dumps(made).count("x" * 300) == 1


MISSED = """
async () => {
  const { Turns } = await import('./web/turns.js');
  const [list, log] = ['ol', 'div'].map((kind) => document.createElement(kind));
  const turns = new Turns(list, document.body, log, () => {});
  turns.begin();
  for (const [turn, cause] of [[1, 'not understood'], [2, 'nothing said']]) {
    turns.thinking(turn);
    turns.dismissed({ turn, cause });
  }
  return { turns: [...list.children].map((item) => item.textContent), said: log.textContent, all: turns.said.length };
}
"""


def test_a_turn_that_was_not_understood_says_so_and_noise_leaves_no_trace(net: Lab, tmp_path: Path) -> None:
    with serve(net, echo_file(tmp_path), tmp_path / "serve.log") as server, browser(server, tmp_path, None) as chromium:
        found = opened(chromium, server).evaluate(MISSED)
    sentence = "Not understood in time. Say it again, or write it."
    assert found == {"turns": [sentence], "said": sentence, "all": 1}
