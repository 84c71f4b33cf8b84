"""What the page keeps in a browser through a reload, and a question of several lines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.e2e.axe import looks
from tests.e2e.server import Server, serve
from tests.e2e.test_browser import browser, net, opened
from tests.e2e.test_page import check
from tests.e2e.test_page_writing import asked, scripted, scripted_file, send
from tests.netlab import Lab

if TYPE_CHECKING:
    from playwright.sync_api import Page

__all__ = ["net", "scripted"]  # fixtures
SIZES = {"desktop": (1280, 800), "narrow": (320, 568), "landscape": (844, 390)}
KEPT = "() => [localStorage.length, sessionStorage.length]"
WANTED = """
() => ['volume', 'hold', 'echo', 'keep-said'].map((id) => {
  const control = document.getElementById(id);
  return control.type === 'range' ? control.value : control.checked;
})
"""


def settle(page: Page, volume: str) -> None:
    """Sets something, and has what is said kept where that is offered."""
    page.click("#settings-button")
    page.locator("#volume").fill(volume)
    page.locator("#volume").dispatch_event("change", {"bubbles": True})
    page.check("#hold")
    if page.is_visible("#keep-said"):
        page.check("#keep-said")
    page.click("#settings .solid")


def loaded_again(page: Page) -> None:
    page.once("dialog", lambda dialog: dialog.accept())
    page.reload()
    page.wait_for_function("() => document.querySelector('#name').textContent === 'scripted'")


def test_settings_and_what_was_said_outlive_a_reload_until_they_are_forgotten(scripted: Server, tmp_path: Path) -> None:
    with browser(scripted, tmp_path, None) as chromium:
        page = opened(chromium, scripted)
        assert page.evaluate(KEPT) == [0, 0], "nothing without having set anything"
        settle(page, "40")
        check(page, "kept in this browser")
        send(page, "Is it <b>kept</b>?")
        assert asked(page, 1) == "Is it <b>kept</b>?"
        page.wait_for_selector(".turn[data-heard=true]")
        answer = str(page.text_content(".answer")).strip()
        loaded_again(page)
        assert page.evaluate(WANTED) == ["40", True, True, True]
        assert page.evaluate("document.getElementById('voice').volume") == 0.4
        page.wait_for_selector("#mute:has-text('Hold to speak')", state="attached")
        assert (page.text_content(".asked"), page.text_content(".answer")) == ("Is it <b>kept</b>?", answer)
        assert page.is_hidden("#welcome") and page.is_enabled("#save-button")
        check(page, "loaded again")
        send(page, "And now?")
        assert asked(page, 2) == "And now?"
        assert page.locator(".divider").count() == 1
        page.click(".divider button")
        assert page.locator(".asked").all_text_contents() == ["And now?"], "what goes on stays"
        assert page.evaluate(KEPT) == [0, 0]
        loaded_again(page)
        assert page.evaluate(WANTED) == ["100", False, True, False]
        assert page.locator(".turn").count() == 0 and page.is_visible("#welcome")


def test_what_was_said_is_kept_only_where_that_was_chosen_and_only_in_its_tab(scripted: Server, tmp_path: Path) -> None:
    with browser(scripted, tmp_path, None) as chromium:
        page, beside = (each := chromium.new_context()).new_page(), each.new_page()
        page.goto(scripted.url)
        settle(page, "40")
        send(page, "Hello?")
        asked(page, 1)
        loaded_again(page)
        page.wait_for_selector(".turn")
        beside.goto(scripted.url)
        beside.wait_for_function("() => document.querySelector('#volume').value === '40'")
        assert beside.locator(".turn").count() == 0
        page.click("#settings-button")
        page.uncheck("#keep-said")
        assert page.evaluate(KEPT) == [1, 0]
        page.click("#forget")
        page.wait_for_selector("#memory p:has-text('Forgotten.')")
        assert page.evaluate(KEPT) == [0, 0]
        page.click("#settings .solid")
        assert page.locator(".turn").count() == 0 and page.is_visible("#welcome") and page.is_disabled("#save-button")


def test_what_is_taken_back_in_one_tab_is_not_kept_in_another(scripted: Server, tmp_path: Path) -> None:
    with browser(scripted, tmp_path, None) as chromium:
        page, beside = (each := chromium.new_context()).new_page(), each.new_page()
        page.goto(scripted.url)
        settle(page, "40")
        beside.goto(scripted.url)
        beside.wait_for_function("() => document.querySelector('#keep-said').checked")
        send(beside, "Hello?")
        asked(beside, 1)
        page.click("#settings-button")
        page.click("#forget")
        beside.wait_for_function("() => !document.querySelector('#keep-said').checked")
        loaded_again(beside)
        assert beside.evaluate(KEPT) == [0, 0] and beside.locator(".turn").count() == 0
        beside.evaluate("() => sessionStorage.setItem('thalweg.said', '{}')")
        beside.reload()
        beside.wait_for_function("() => sessionStorage.length === 0")


def test_of_a_pipeline_that_keeps_nothing_the_page_keeps_nothing(net: Lab, tmp_path: Path) -> None:
    file = scripted_file(tmp_path)
    with serve(net, file, tmp_path / "first.log") as server, browser(server, tmp_path, None) as chromium:
        page = opened(chromium, server)
        settle(page, "40")
        assert page.evaluate(KEPT) == [1, 0]
        server.process.kill()
        server.process.wait()
        file.write_text(file.read_text(encoding="utf-8") + "\nkeep: nothing\n", encoding="utf-8")
        with serve(net, file, tmp_path / "second.log"):
            loaded_again(page)
            assert page.evaluate(KEPT) == [0, 0], "not even what was set before"
            settle(page, "30")
            send(page, "Hello?")
            asked(page, 1)
            page.click("#settings-button")
            assert page.is_hidden("#keep-said") and page.is_hidden("#forget")
            assert "keeps nothing" in page.inner_text("#memory p")
            page.click("#settings .solid")
            loaded_again(page)
            assert page.evaluate(KEPT) == [0, 0]
            assert page.locator(".turn").count() == 0


STUCK = """
() => { Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); }; }
"""


def test_a_browser_that_keeps_nothing_is_no_trouble(scripted: Server, tmp_path: Path) -> None:
    wrong: list[Any] = []
    with browser(scripted, tmp_path, None) as chromium:
        page = opened(chromium, scripted)
        page.on("pageerror", lambda error: wrong.append(error))
        page.evaluate("() => localStorage.setItem('thalweg.settings', '{not JSON')")
        loaded_again(page)
        page.evaluate(STUCK)
        settle(page, "40")
        send(page, "Hello?")
        assert asked(page, 1) == "Hello?"
        assert not wrong


COMPOSED = """
() => {
  const field = document.querySelector('#text');
  const enter = { key: 'Enter', bubbles: true, cancelable: true };
  const press = (more) => field.dispatchEvent(new KeyboardEvent('keydown', { ...enter, ...more }));
  return [press({ isComposing: true }), press({ keyCode: 229 }), field.value];
}
"""


def test_a_question_may_have_lines_and_is_not_sent_while_it_is_composed(scripted: Server, tmp_path: Path) -> None:
    height = "() => document.querySelector('#text').getBoundingClientRect().height"
    with browser(scripted, tmp_path, None) as chromium:
        page = opened(chromium, scripted)
        one = page.evaluate(height)
        page.fill("#text", "kyou")
        assert page.evaluate(COMPOSED) == [True, True, "kyou"], "neither sent nor kept from the input method"
        page.fill("#text", "One")
        page.press("#text", "Shift+Enter")
        page.keyboard.type("two")
        assert page.input_value("#text") == "One\ntwo" and page.evaluate(height) > one + 15
        page.press("#text", "Enter")
        assert asked(page, 1) == "One\ntwo"
        assert page.evaluate(height) == one and page.input_value("#text") == ""
        for _ in looks(page, SIZES, "a question of many lines"):
            page.fill("#text", "line\n" * 60)
            place = page.locator("#text").bounding_box()
            assert place is not None and place["height"] > one + 60
            over = "[document.documentElement.scrollWidth - innerWidth, document.body.scrollHeight - innerHeight]"
            assert max(page.evaluate(over)) <= 0
