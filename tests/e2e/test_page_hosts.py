"""The page while hosts are killed and emptied: the same conversation goes on, and nothing is said to be wrong."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from tests.e2e.server import Server, serve
from tests.e2e.test_browser import PATIENCE_MS, browser, net, opened
from tests.netlab import Lab
from thalweg.deploy.bench.dialogue.scripted import pipeline

__all__ = ["net"]  # the fixture
ADMIN = ("-H", "Authorization: Bearer admin")


def hosts(server: Server) -> dict[str, dict[str, Any]]:
    """Those that are up and have a pipeline waiting."""
    found = json.loads(server.get("/hosts", *ADMIN)[1])["hosts"]
    return {host["name"]: host for host in found if host["state"] == "up" and not host["why"]}


def home(server: Server) -> str:
    """The host of the one conversation."""
    (session,) = server.sessions()
    return str(session["host"])


def names(server: Server) -> list[str]:
    """Ids of conversations: one that moved has another."""
    return [session["id"] for session in server.sessions()]


def test_the_page_goes_on_when_its_host_is_killed_and_when_it_is_emptied(net: Lab, tmp_path: Path) -> None:
    file = tmp_path / "scripted.yaml"
    file.write_text(pipeline(), encoding="utf-8")
    with (
        serve(net, file, tmp_path / "serve.log", "--on", "subprocess", "--hosts", "2") as server,
        browser(server, tmp_path, None) as chromium,
    ):
        server.until(lambda: len(hosts(server)) == 2)
        page = opened(chromium, server)

        def write(question: str) -> None:
            page.fill("#text", question)
            page.press("#text", "Enter")

        def ask(question: str, answer: str) -> None:
            write(question)
            page.wait_for_selector(f".answer:has-text('{answer}')", timeout=PATIENCE_MS)

        ask("red", "red")
        time.sleep(1.0)
        first = names(server)
        os.kill(hosts(server)[home(server)]["pid"], signal.SIGKILL)  # a new one may have its name
        server.until(lambda: names(server) not in ([], first))
        page.wait_for_selector("body[data-phase=talking]", timeout=PATIENCE_MS)
        ask("green", "red and green")
        server.until(lambda: len(hosts(server)) == 2)
        second = home(server)
        assert server.get(f"/hosts/{second}/drain", *ADMIN, "-X", "POST")[0] == 200
        server.until(lambda: [session["host"] for session in server.sessions()] not in ([], [second]))
        ask("blue", "red and green and blue")
        server.until(lambda: len(hosts(server)) == 2)
        third = hosts(server)[home(server)]["pid"]
        os.kill(third, signal.SIGSTOP)  # it does not read the question
        write("violet")
        os.kill(third, signal.SIGKILL)
        page.wait_for_selector(".answer:has-text('red and green and blue and violet')", timeout=PATIENCE_MS)
        assert page.is_hidden("#notice")
        assert page.locator(".asked").all_inner_texts() == ["red", "green", "blue", "violet"]
