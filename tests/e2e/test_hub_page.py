"""The hub's page in a real browser, with two real nodes and a lender: what it says is true, everybody can use it
(axe-core), what an operator does by clicking happens on the nodes, and nothing of it comes from elsewhere.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import EXAMPLES, require, require_package
from tests.deploy.fleet.processes import HERE, Fleet, thalweg
from tests.e2e.axe import looks
from tests.e2e.test_browser import CHROMIUM, PATIENCE_MS
from thalweg.deploy.bench.fleet.cloud import LENT
from thalweg.deploy.bench.ports import free_port

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.real
SIZES = {"desktop": (1440, 900), "phone": (390, 844), "narrow": (320, 568)}
BEACON = (HERE / "beacon.yaml", HERE / "beacon.py")
PATROL = (HERE / "patrol.yaml", HERE / "patrol.py", LENT / "counting.py", EXAMPLES / "labels.mp4")


@contextmanager
def chromium(url: str) -> Iterator[Page]:
    """A page in Chromium; whatever it asks of anybody but the hub fails the test."""
    require_package("playwright", "dev")
    require(CHROMIUM, "apt-get install chromium")
    from playwright.sync_api import sync_playwright

    elsewhere: list[str] = []
    errors: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(PATIENCE_MS)
        page.on("request", lambda asked: None if asked.url.startswith((url, "data:")) else elsewhere.append(asked.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: errors.append(said.text) if "Security Policy" in said.text else None)
        page.goto(url)
        yield page
        browser.close()
    assert (elsewhere, errors) == ([], [])


TOO_WIDE = """
() => document.documentElement.scrollWidth <= innerWidth ? [] : [...document.querySelectorAll('body *')]
  .filter((each) => each.getBoundingClientRect().right > innerWidth && !each.closest('.wide'))
  .map((each) => `${each.tagName} ${each.className}`)
"""


def check(page: Page, what: str) -> None:
    """In each size, light and dark: nothing that axe-core knows to be wrong, and no scrolling sideways."""
    for look in looks(page, SIZES, what):
        assert page.evaluate(TOO_WIDE) == [], look
    page.set_viewport_size({"width": 1440, "height": 900})
    page.emulate_media(color_scheme="light")


def roll_out(page: Page, files: tuple[Path, ...], node: str, **settings: object) -> None:
    """By clicking, to one node."""
    page.click("#rollout-button")
    page.set_input_files("#files", [str(path) for path in files])
    for other in page.locator("#targets label").all():
        other.locator("input").set_checked(other.get_attribute("data-node") == node)
    page.fill("#settings", "\n".join(f"{name}={value}" for name, value in settings.items()))
    page.fill("#watch", "2")
    page.fill("#missed", "100")
    page.click("#rollout-go")


def cell(page: Page, node: str, column: int, text: str) -> None:
    """Wait until that column of a node's row says this."""
    page.wait_for_function(
        """([node, column, text]) => [...document.querySelectorAll('#nodes tbody tr')].some((row) =>
             row.dataset.key === node && row.cells[column].textContent === text)""",
        arg=[node, column, text],
    )


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A hub with a page; two nodes and a lender that run."""
    for package, extra in (("cryptography", "hub"), ("aiohttp", "hub"), ("pymavlink", "edge"), ("av", "video")):
        require_package(package, extra)
    with Fleet(tmp_path) as found:
        page = free_port()
        found.start_hub("--page", str(page))
        found.enrol("drone-7", "node")
        (tmp_path / "node/commands.json").write_text('{"allow": ["video"]}', encoding="utf-8")
        found.enrol("boat-1", "boat")
        found.enrol("fog-1", "fog", "--lends", "fog")
        found.start_node()
        found.start("boat", thalweg("node", "run", "--folder", tmp_path / "boat", "--report", 0.5))
        lend = "--host", "127.0.0.1", "--port", free_port(), "--files", LENT
        found.start("fog", thalweg("node", "lend", "--folder", tmp_path / "fog", *lend))
        found.page = f"http://127.0.0.1:{page}/"
        yield found


def test_an_operator_sees_the_fleet_and_rolls_out_rolls_back_and_revokes_by_clicking(
    fleet: Fleet, tmp_path: Path
) -> None:
    require_package("axe_playwright_python", "dev")
    with chromium(fleet.page) as page:
        page.wait_for_selector("#summary:has-text('3 nodes')")
        assert page.is_visible("#no-generations") and page.is_visible("#no-map")
        check(page, "nothing was rolled out yet")

        roll_out(page, BEACON, "boat-1", gap=100)
        page.fill("#key", "not the key")
        page.click("#key-go")
        page.wait_for_selector("#key-wrong:has-text('not the key of this hub')")
        check(page, "a wrong key")
        page.fill("#key", (tmp_path / "hub/page.key").read_text(encoding="ascii").strip())
        page.click("#key-go")
        page.wait_for_selector("#rollout", state="hidden")
        cell(page, "boat-1", 2, "1")

        telemetry = free_port()
        fleet.start("autopilot", [sys.executable, str(EXAMPLES / "uav/autopilot.py"), f"127.0.0.1:{telemetry}"])
        roll_out(page, PATROL, "drone-7", autopilot=telemetry)
        page.wait_for_selector("#rollout", state="hidden")
        cell(page, "boat-1", 2, "1")
        cell(page, "drone-7", 2, "2")

        page.click("#nodes button:has-text('drone-7')")
        page.wait_for_selector("#node-state:has-text('here')")
        page.wait_for_selector("#places td:has-text('fog: fog-1')")
        page.wait_for_selector("#cause-list li")
        page.wait_for_selector("#map circle.event")
        page.wait_for_selector("#log:has-text('release')")
        page.wait_for_selector("figcaption:has-text('encoder.video, taken')")
        page.wait_for_selector("figcaption:has-text('sketch.frame, taken')")
        assert {tuple(size) for size in page.evaluate(PAINTED)} == {(480, 360, True), (160, 120, True)}
        assert re.search(r"of [\d,]+ in time", page.inner_text("#deadlines"))
        assert page.locator("figcaption:has-text('close.video')").count() == 0
        page.click("#video:has-text('Ask for video')")
        page.wait_for_selector("#video-state:has-text('has agreed to send video for')")
        page.wait_for_selector("figcaption:has-text('close.video, taken')")
        check(page, "video was asked for")
        page.click("#video:has-text('End video')")
        page.wait_for_selector("#video-state:has-text('has ended')")
        cell(page, "fog-1", 3, "lends, 1 free")
        assert page.locator("#map text:has-text('drone-7')").count() == 1
        assert page.locator("#backlog td:has-text('events')").count() == 1
        page.screenshot(path=tmp_path / "hub_page.png")
        check(page, "a node was chosen")

        roll_out(page, (*BEACON,), "boat-1", fault="crash")
        page.wait_for_selector("#rollout", state="hidden")
        page.click("#nodes button:has-text('boat-1')")
        page.wait_for_selector("#node-name:has-text('boat-1')")
        page.wait_for_selector("#facts dt:text-is('why')")
        page.wait_for_selector("#video-state:has-text('its own file allows none')")
        assert page.is_hidden("#video")
        page.click("#generations button[aria-label='Run generation 1 again']")
        page.wait_for_selector("#sure-title:has-text('Run generation 1 again?')")
        check(page, "asked whether one is sure")
        page.click("#sure-go")
        cell(page, "boat-1", 2, "4")
        page.click("#nodes button:has-text('boat-1')")
        page.click("#revoke")
        page.click("#sure-go")
        cell(page, "boat-1", 1, "revoked")
        fleet.kill("hub")
        page.wait_for_selector("#notice:has-text('does not answer')")
        check(page, "the hub is away")
    nodes = {path.parent.name: json.loads(path.read_bytes()) for path in (tmp_path / "hub/nodes").glob("*/node.json")}
    assert nodes["boat-1"]["revoked"] and nodes["boat-1"]["desired"] == 4 and nodes["drone-7"]["desired"] == 4


PAINTED = """
() => [...document.querySelectorAll('#pictures canvas')].map((canvas) => {
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  return [canvas.width, canvas.height, new Set(data).size > 20];
})
"""
