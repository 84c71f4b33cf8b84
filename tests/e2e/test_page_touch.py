"""What a finger has to hit on the page is large enough: 44 pixels, also in the settings and beside what was kept."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.server import Server
from tests.e2e.test_browser import PATIENCE_MS, browser, net
from tests.e2e.test_page_memory import loaded_again
from tests.e2e.test_page_writing import scripted, send

__all__ = ["net", "scripted"]  # the fixtures
SIZES = [(390, 844), (320, 568), (844, 390)]
SMALL = """
() => [...document.querySelectorAll('button, select, textarea, input')].filter((each) => each.checkVisibility())
  .map((each) => [each, (each.closest('label') ?? each).getBoundingClientRect()])
  .filter(([, { width, height }]) => width && Math.round(Math.min(width, height)) < 44)
  .map(([each, { width, height }]) => `${each.id || each.className || each.textContent}: ${width} × ${height}`)
"""


def test_everything_to_press_is_large_enough_for_a_finger(scripted: Server, tmp_path: Path) -> None:
    with browser(scripted, tmp_path, None) as chromium:
        page = chromium.new_context(has_touch=True, is_mobile=True).new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(scripted.url)
        for width, height in SIZES:
            page.set_viewport_size({"width": width, "height": height})
            assert page.evaluate(SMALL) == []
            page.click("#settings-button")
            page.check("#keep-said")
            assert page.evaluate(SMALL) == []
            page.click("#settings .solid")
        send(page, "Hello?")
        page.wait_for_selector(".turn[data-heard=true] .again:not([hidden])")
        assert page.evaluate(SMALL) == []
        loaded_again(page)
        page.wait_for_selector(".divider button")
        assert page.evaluate(SMALL) == []
        page.evaluate("document.querySelector('.divider button').style = 'min-height: 2rem; height: 2rem'")
        assert page.evaluate(SMALL) != []
