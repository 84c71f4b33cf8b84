"""A page as everybody can use it: held against axe-core, in every size, light and dark."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

RULES = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"]


def looks(page: Page, sizes: Mapping[str, tuple[int, int]], what: str) -> Iterator[str]:
    """Show the page so, and give which look it is; each that axe-core knows to be wrong fails the test."""
    from axe_playwright_python.sync_playwright import Axe

    for name, (width, height) in sizes.items():
        for scheme in ("light", "dark"):
            look = f"{what}, {name}, {scheme}"
            page.set_viewport_size({"width": width, "height": height})
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            found = Axe().run(page, options={"runOnly": RULES})
            wrong = [(each["id"], [node["target"] for node in each["nodes"]]) for each in found.response["violations"]]
            assert wrong == [], look
            yield look
