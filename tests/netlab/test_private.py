"""Private words under every fault, on hosts of their own: none at the cloud's server, none on the wire to it.

The servers speak plain HTTP, so that a word that leaks could be read from the wire; `France`, which may be told, is.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.conftest import require_lab, require_package
from tests.netlab import Host, Lab, Link, lab
from tests.netlab.private import WORDS
from thalweg.deploy.bench.language.modelserver import FAULTS

pytestmark = pytest.mark.real
NOTHING = dict.fromkeys((*WORDS, "Plugh"), 0)
LINK = Link(delay_ms=5, jitter_ms=1)


@contextmanager
def running(host: Host, what: str) -> Iterator[dict[str, int]]:
    """A program until the block ends; then what it has met is there."""
    process: Any = host.python(
        "-m", "tests.netlab.private", what, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    met: dict[str, int] = {}
    yield met
    out, _ = process.communicate("", timeout=60)
    met |= json.loads(out)


def heard(net: Lab, *faults: str, how: str = "talk") -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """What the cloud's server, the wire to it and the fog's server met."""
    with running(net.cloud, "listen") as wire, running(net.cloud, "serve") as cloud, running(net.fog, "serve") as fog:
        talk = net.edge.python(
            "-m", "tests.netlab.private", how, net.fog.address, net.cloud.address, *faults, stdout=subprocess.PIPE
        )
        out, _ = talk.communicate(timeout=150)
        assert json.loads(out) == []
    return cloud, wire, fog


def test_private_words_are_neither_at_the_cloud_nor_on_the_wire_to_it_under_any_fault() -> None:
    require_lab()
    require_package("httpx", "language")
    with lab("edge", "fog", "cloud", link=LINK, seed=5) as net:
        cloud, wire, fog = heard(net, "none", *FAULTS)
    assert cloud["France"] >= len(FAULTS)
    assert wire["France"] >= cloud["France"], "what may be told can be read on the wire"
    assert {word: met[word] for met in (cloud, wire) for word in (*WORDS, "Plugh")} == dict.fromkeys(
        (*WORDS, "Plugh"), 0
    )
    assert [fog[word] for word in WORDS] == [0] * len(WORDS)
    assert fog["Plugh"] > 0, "what may go as far as the fog went there"


@pytest.mark.parametrize("link", [Link(delay_ms=20, loss=0.2), Link(outages=((0, 3600),))], ids=["bad", "gone"])
def test_private_words_are_not_on_a_wire_that_is_bad_or_gone_either(link: Link) -> None:
    require_lab()
    require_package("httpx", "language")
    with lab("edge", "fog", "cloud", link=LINK, seed=6) as net:
        net.change(link, "edge", "cloud")
        cloud, wire, _ = heard(net, "none", "dies", "stalls")
    assert {word: met[word] for met in (cloud, wire) for word in (*WORDS, "Plugh")} == dict.fromkeys(
        (*WORDS, "Plugh"), 0
    )


def test_of_private_turns_no_more_than_connections_reach_the_cloud_under_any_fault() -> None:
    """Heard word by word: connected to with the first words, drafted and read along at the edge."""
    require_lab()
    require_package("httpx", "language")
    with lab("edge", "fog", "cloud", link=LINK, seed=7) as net:
        cloud, wire, fog = heard(net, "none", *FAULTS, how="speak")
    assert wire["connections"] >= 3 * (1 + len(FAULTS)), wire
    assert (wire["sent"], cloud["questions"], fog["questions"]) == (0, 0, 0)
    assert {word: met[word] for met in (cloud, wire, fog) for word in WORDS} == dict.fromkeys(WORDS, 0)
