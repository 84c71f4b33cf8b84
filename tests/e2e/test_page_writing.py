"""What a person meets who writes at the page: long texts, other scripts, a server that is away, questions in haste."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.server import Server, serve
from tests.e2e.test_browser import PATIENCE_MS, browser, net, opened
from tests.e2e.test_page import SIZES
from tests.netlab import Lab
from thalweg.deploy.bench.dialogue.scripted import pipeline

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

__all__ = ["net"]  # the fixture


@pytest.fixture
def scripted(net: Lab, tmp_path: Path) -> Iterator[Server]:
    """A server that answers at once with what it was asked so far."""
    with serve(net, scripted_file(tmp_path), tmp_path / "serve.log") as found:
        yield found


def scripted_file(folder: Path) -> Path:
    file = folder / "scripted.yaml"
    file.write_text(pipeline(), encoding="utf-8")
    return file


def send(page: Page, text: str) -> None:
    page.fill("#text", text)
    page.press("#text", "Enter")


def asked(page: Page, number: int) -> str:
    """The text of a question, once it is on the page."""
    page.wait_for_function(f"() => document.querySelectorAll('.asked[data-final=true]').length >= {number}")
    return str(page.locator(".asked").nth(number - 1).text_content())


def test_a_question_in_any_script_is_asked_and_one_that_is_too_long_stays_in_its_field(
    scripted: Server, tmp_path: Path
) -> None:
    with browser(scripted, tmp_path, None) as chromium:
        page = opened(chromium, scripted)
        send(page, "京" * 2000)
        assert asked(page, 1) == "京" * 2000
        pasted = "word " * 10_000
        send(page, pasted)
        page.wait_for_selector("#notice[data-code=too-long]:has-text('It has 49,999.')")
        assert page.input_value("#text") == pasted.strip() and page.is_hidden("#notice-act")
        send(page, "🌊" * 2000)
        assert asked(page, 2) == "🌊" * 2000
        assert page.is_hidden("#notice") and page.input_value("#text") == ""
        send(page, "שלום (1)")
        assert asked(page, 3) == "שלום (1)"
        directions = "() => [...document.querySelectorAll('.asked')].map((each) => getComputedStyle(each).direction)"
        assert page.evaluate(directions) == ["ltr", "ltr", "rtl"]


def test_a_person_without_a_microphone_who_writes_is_not_told_about_it_any_longer(
    scripted: Server, tmp_path: Path
) -> None:
    with browser(scripted, tmp_path, None) as chromium:
        page = opened(chromium, scripted)
        page.click("#start")
        page.wait_for_selector("#notice[data-code=no-microphone]")
        for width, height in SIZES.values():
            page.set_viewport_size({"width": width, "height": height})
            text, close = (page.locator(each).bounding_box() for each in ("#notice-text", "#notice-close"))
            assert text is not None and close is not None
            assert close["x"] >= text["x"] + text["width"] and close["y"] < text["y"] + text["height"], "beside it"
        page.focus("#notice-close")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "talk", "the keyboard is not lost with the notice"
        page.click("#speak")
        page.wait_for_selector("#notice[data-code=no-microphone]")
        send(page, "Hello?")
        page.wait_for_selector("#notice", state="hidden")
        assert asked(page, 1) == "Hello?"


def test_an_idea_chosen_by_keyboard_leaves_the_keyboard_in_the_conversation(scripted: Server, tmp_path: Path) -> None:
    with browser(scripted, tmp_path, None) as chromium:
        page = opened(chromium, scripted)
        page.focus("#ideas button >> nth=1")
        page.keyboard.press("Enter")
        assert asked(page, 1) == "Why is the sky blue?"
        assert page.evaluate("document.activeElement.id") == "talk"


def test_what_was_written_while_nothing_could_be_sent_is_sent_by_trying_again(net: Lab, tmp_path: Path) -> None:
    file = scripted_file(tmp_path)
    with serve(net, file, tmp_path / "first.log") as first, browser(first, tmp_path, None) as chromium:
        page = opened(chromium, first)
        first.process.kill()
        first.process.wait()
        send(page, "Without a server?")
        page.wait_for_selector("#notice[data-code=unreachable]")
        assert page.input_value("#text") == "Without a server?"
        with serve(net, file, tmp_path / "second.log") as second:
            page.click("#notice-act")
            assert asked(page, 1) == "Without a server?"
            assert page.is_hidden("#notice"), "no microphone was asked for"
            os.kill(second.process.pid, signal.SIGSTOP)
            page.wait_for_selector("#notice[data-code=stalled]")
            send(page, "While it hangs?")
            assert page.input_value("#text") == "While it hangs?"
            os.kill(second.process.pid, signal.SIGCONT)
            assert asked(page, 2) == "While it hangs?"
            assert page.input_value("#text") == ""
            second.process.kill()
            page.wait_for_selector("body[data-phase=away]", timeout=PATIENCE_MS)
            assert page.inner_text("#start-label") == "End"
            page.click("#start")
            page.wait_for_selector("body[data-phase=ended]")
            assert page.is_hidden("#notice"), "it does not come back any more"


EXPLAINED = "async ([code, going]) => (await import('./web/trouble.js')).explain(code, 'Said.', going)"


def test_no_button_of_a_notice_ends_a_conversation_that_goes_on(scripted: Server, tmp_path: Path) -> None:
    with browser(scripted, tmp_path, None) as chromium:
        page = opened(chromium, scripted)
        assert page.evaluate(EXPLAINED, ["bad-message", True]) == {"sentence": "Said.", "way": None}
        assert page.evaluate(EXPLAINED, ["closing", True])["way"] is None
        assert page.evaluate(EXPLAINED, ["bad-answer", False])["way"] == ["Try again", "start"]
        send(page, "Hello?")
        asked(page, 1)
        scripted.process.send_signal(signal.SIGINT)
        page.wait_for_selector("#notice[data-code=closing]")
        assert page.is_hidden("#notice-act")
        scripted.process.send_signal(signal.SIGINT)
        page.wait_for_selector("#notice[data-code=stopping] #notice-act:has-text('Try again')")
        assert page.get_attribute("body", "data-phase") == "ended"


WAITING = """
async () => {
  const { Turns } = await import('./web/turns.js');
  const [list, log] = ['ol', 'div'].map((kind) => document.createElement(kind));
  const turns = new Turns(list, document.createElement('div'), log, () => {});
  turns.begin();
  turns.thinking(1);
  turns.answer({ turn: 1, text: 'Paris.', last: true });
  for (const turn of [2, 3]) {
    turns.caption({ turn, text: `And ${turn}?`, stable: 0, final: true });
    turns.thinking(turn);
  }
  const shown = () => [...list.children].map((item) => item.textContent);
  const before = shown(), dots = list.querySelectorAll('.waiting').length;
  const latency = (ms) => { turns.latency({ turn: 1, played_ms: ms }); return shown()[0]; };
  const latencies = [999.4, 6502].map(latency);
  turns.answered({ turn: 1, by: '<b>house</b>' });
  const by = list.querySelector('[data-kind=by]').textContent;
  turns.over();
  return { before, dots, latencies, by, after: shown(), left: list.querySelectorAll('.waiting').length };
}
"""


def test_only_a_question_that_is_being_answered_seems_to_be(scripted: Server, tmp_path: Path) -> None:
    with browser(scripted, tmp_path, None) as chromium:
        found = opened(chromium, scripted).evaluate(WAITING)
    joined = "And 2?answered together with the next question"
    assert found["before"] == ["Paris.", joined, "And 3?"] and found["dots"] == 1
    assert found["latencies"] == ["Paris.first word after 999 ms", "Paris.first word after 6.5 s"]
    assert found["by"] == "answered by <b>house</b>"
    assert found["after"] == [found["latencies"][1] + found["by"], joined, "And 3?not answered"] and found["left"] == 0


SCROLLED = """
async () => {
  const { Turns } = await import('./web/turns.js');
  const [list, log, scroller] = ['ol', 'div', 'div'].map((kind) => document.createElement(kind));
  scroller.style = 'position: fixed; top: 0; height: 200px; width: 300px; overflow-y: auto';
  scroller.append(list); document.body.append(scroller);
  const frames = async () => { for (let i = 0; i < 3; i++) await new Promise(requestAnimationFrame); };
  const end = () => Math.abs(scroller.scrollHeight - scroller.clientHeight - scroller.scrollTop) < 2;
  const turns = new Turns(list, scroller, log, () => {}), found = [];
  const say = async (turn) => { turns.answer({ turn, text: 'word '.repeat(200), last: false }); await frames(); };
  turns.begin();
  await say(1); found.push(end());
  scroller.scrollTop = 100; await frames();
  await say(1); found.push(scroller.scrollTop);
  scroller.scrollTop = scroller.scrollHeight; await frames();
  await say(1); found.push(end());
  scroller.style.height = '120px'; await frames(); found.push(end());
  scroller.scrollTop = 100; await frames();
  await say(2); found.push(end());
  return found;
}
"""


def test_somebody_who_reads_further_up_is_left_there_until_they_come_back_or_a_turn_begins(
    scripted: Server, tmp_path: Path
) -> None:
    with browser(scripted, tmp_path, None) as chromium:
        assert opened(chromium, scripted).evaluate(SCROLLED) == [True, 100, True, True, True]


def test_a_page_in_a_conversation_asks_before_it_is_left(scripted: Server, tmp_path: Path) -> None:
    leaving = "() => !dispatchEvent(new Event('beforeunload', { cancelable: true }))"
    with browser(scripted, tmp_path, None) as chromium:
        page = opened(chromium, scripted)
        assert not page.evaluate(leaving)
        send(page, "Hello?")
        asked(page, 1)
        assert page.evaluate(leaving)
        page.click("#start")
        page.wait_for_selector("body[data-phase=ended]")
        assert not page.evaluate(leaving)


def test_pressing_the_button_while_it_connects_ends_the_attempt(scripted: Server, tmp_path: Path) -> None:
    held: list[Route] = []
    with browser(scripted, tmp_path, None) as chromium:
        page = opened(chromium, scripted)
        page.route("**/offer", lambda route: held.append(route))
        with page.expect_request("**/offer"):
            send(page, "Hello?")
        assert page.inner_text("#start-label") == "End"
        page.click("#start")
        page.wait_for_selector("body[data-phase=ended]")
        with page.expect_request(lambda request: request.method == "DELETE"):
            held[0].continue_()
        assert page.get_attribute("body", "data-phase") == "ended" and page.is_hidden("#notice")
        assert page.input_value("#text") == "Hello?"
        page.unroute("**/offer")
        page.press("#text", "Enter")
        assert asked(page, 1) == "Hello?"


# Keeps the connections that the page makes; `deaf`: none of them comes about, which the page finds after five seconds.
WATCHED = """
() => {
  const later = setTimeout, peer = RTCPeerConnection.prototype;
  const [make, answer] = [peer.createDataChannel, peer.setRemoteDescription];
  Object.assign(window, { peers: [], channels: [], sent: [], deaf: false, answered: 0 });
  window.setTimeout = (what, ms) => later(what, deaf && ms === 12000 ? 5000 : ms);
  peer.createDataChannel = function (name) {
    const channel = make.call(this, name), number = channels.push(channel), send = channel.send;
    peers.push(this);
    channel.send = (text) => { sent.push([number, JSON.parse(text).type]); send.call(channel, text); };
    return channel;
  };
  peer.setRemoteDescription = async function (found) {
    answered++;
    if (!deaf) await answer.call(this, found);
  };
  const message = JSON.stringify({ v: 1, type: 'reconnect' });
  window.move = () => channels.at(-1).dispatchEvent(new MessageEvent('message', { data: message }));
}
"""


def watched(chromium: Any, server: Server) -> Page:
    page = opened(chromium, server)
    page.evaluate(WATCHED)
    return page


def hold_back(page: Page, path: str) -> list[Route]:
    """Requests that the server does not get until they are continued."""
    held: list[Route] = []
    page.route(path, lambda route: held.append(route))
    return held


def test_what_is_written_and_stopped_while_the_conversation_moves_reaches_the_next_host(
    scripted: Server, tmp_path: Path
) -> None:
    with browser(scripted, tmp_path, None) as chromium:
        page = watched(chromium, scripted)
        send(page, "Hello?")
        assert asked(page, 1) == "Hello?"
        held = hold_back(page, "**/offer")
        with page.expect_request("**/offer"):
            page.evaluate("move()")
        send(page, "While it moves?")
        assert page.input_value("#text") == "While it moves?" and page.get_attribute("body", "data-phase") == "talking"
        page.evaluate("() => { const stop = document.querySelector('#stop'); stop.disabled = false; stop.click(); }")
        held[0].continue_()
        assert asked(page, 2) == "While it moves?"
        assert page.input_value("#text") == ""
        there = [kind for number, kind in page.evaluate("sent") if number == 2]
        assert [kind for kind in there if kind in ("stop", "say")] == ["stop", "say"]


def test_ending_a_conversation_while_it_moves_closes_both_connections(scripted: Server, tmp_path: Path) -> None:
    with browser(scripted, tmp_path, None) as chromium:
        page = watched(chromium, scripted)
        send(page, "Hello?")
        asked(page, 1)
        held = hold_back(page, "**/offer")
        with page.expect_request("**/offer"):
            page.evaluate("move()")
        page.click("#start")
        page.wait_for_selector("body[data-phase=ended]")
        held[0].abort()
        closed = "() => peers.length === 2 && peers.every((peer) => peer.signalingState === 'closed')"
        page.wait_for_function(closed, timeout=20_000)


def test_an_attempt_that_was_ended_leaves_the_next_conversation_alone(scripted: Server, tmp_path: Path) -> None:
    with browser(scripted, tmp_path, None) as chromium:
        page = watched(chromium, scripted)
        page.evaluate("() => { window.deaf = true; }")
        send(page, "Hello?")
        page.wait_for_function("() => answered === 1", timeout=20_000)
        page.click("#start")
        page.wait_for_selector("body[data-phase=ended]")
        page.wait_for_function("() => document.querySelector('#text').value === 'Hello?'", timeout=3_500)
        page.evaluate("() => { window.deaf = false; }")
        page.press("#text", "Enter")
        assert asked(page, 1) == "Hello?"
        page.wait_for_timeout(5_500)  # until the first attempt would have failed
        assert page.get_attribute("body", "data-phase") == "talking" and page.is_hidden("#notice")


PROMPT = """
() => {
  const { stream } = new AudioContext().createMediaStreamDestination();
  window.track = stream.getAudioTracks()[0];
  navigator.mediaDevices.getUserMedia = () => new Promise((resolve) => { window.allow = () => resolve(stream); });
}
"""


def test_the_button_ends_what_waits_for_the_server_or_for_the_microphone(scripted: Server, tmp_path: Path) -> None:
    offers: list[str] = []
    with browser(scripted, tmp_path, None) as chromium:
        page = opened(chromium, scripted)
        page.on("request", lambda request: offers.append(request.url) if request.url.endswith("/offer") else None)
        page.evaluate(PROMPT)
        page.click("#start")
        page.wait_for_function("() => window.allow", timeout=20_000)
        page.click("#start")
        assert page.get_attribute("body", "data-phase") == "idle"
        page.evaluate("allow()")
        page.wait_for_function("() => track.readyState === 'ended'", timeout=20_000)
        held = hold_back(page, "**/config")
        with page.expect_request("**/config"):
            send(page, "Hello?")
        page.click("#start")
        assert page.get_attribute("body", "data-phase") == "idle"
        held[0].continue_()
        page.wait_for_function("() => document.querySelector('#text').value === 'Hello?'", timeout=20_000)
        assert page.get_attribute("body", "data-phase") == "idle" and page.is_hidden("#notice") and not offers
