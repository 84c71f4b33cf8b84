"""What a server answers to its operator's commands is foreign: nothing of it ends them, or commands a terminal.

And what one conversation host tells for Prometheus spoils the figures of no other.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.conftest import require_package
from tests.hostile.test_hostile import harmless
from thalweg.deploy.server.observing.exposition import merged

VALUES = {
    "a text": '"\\u001b]0;evil\\u0007\\u202e"',
    "a list": "[[[]]]",
    "a map": '{"a": {"b": 1}}',
    "nothing": "null",
    "true": "true",
    "not a number": "NaN",
    "infinity": "Infinity",
    "minus infinity": "-Infinity",
    "a number of 4,000 digits": "9" * 4000,
    "a fraction beyond all": "1e999",
    "a text without end": f'"{"x" * 50_000}"',
}
FIELDS = (
    "name", "id", "host", "state", "floor", "why", "version", "zone", "pid", "limit", "used", "late_s", "age_s",
    "turns", "played_ms", "played_p95_ms", "problems", "reconnects", "conversations",
)  # fmt: skip


def answering(monkeypatch: pytest.MonkeyPatch, found: object) -> None:
    """Have every server answer so, from now on."""
    require_package("aiohttp", "webrtc")
    from thalweg.transports.webrtc.signalling import Signalling

    async def ask(self: object, *_: object, **__: object) -> tuple[int, Any]:
        return 200, found

    monkeypatch.setattr(Signalling, "ask", ask)


@pytest.mark.parametrize("what", VALUES)
@pytest.mark.parametrize("as_json", [False, True], ids=["table", "json"])
def test_hosts_and_conversations_are_listed_whatever_a_server_says_of_them(
    what: str, as_json: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    value = json.loads(VALUES[what])
    rows = [dict.fromkeys(FIELDS, value), {"conversations": {"talking": value}}, {"state": value}, {}]
    answering(monkeypatch, {"hosts": rows, "sessions": rows})
    from thalweg.deploy.commands.hosts import list_hosts
    from thalweg.deploy.commands.sessions import list_sessions

    list_hosts("http://localhost", "", as_json)
    list_sessions("http://localhost", "", as_json=as_json)
    said = capsys.readouterr().out
    assert all(harmless(line) for line in said.splitlines())


@pytest.mark.parametrize("what", VALUES)
def test_draining_a_host_ends_whatever_a_server_says_of_it(
    what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    value = json.loads(VALUES[what])
    answering(monkeypatch, {"within_s": value, "held": value, "hosts": value})
    from thalweg.deploy.commands.hosts import drain_host

    assert drain_host("host-1", "http://localhost", "", wait=True) == 0
    said = capsys.readouterr().err
    assert all(harmless(line) for line in said.splitlines()) and len(said) < 300


LINES = {
    "a label without an end": 'thalweg_x{a="b 1',
    "braces in braces": 'thalweg_x{a="b"}} 1',
    "another host's": 'thalweg_x{host="other"} 1',
    "a value that is none": "thalweg_x{} evil",
    "a type that there is not": "# TYPE thalweg_x evil",
    "a type without a name": "# TYPE",
    "a figure of a front": "thalweg_host_up 0",
    "a figure of a front in a family of its own": "# TYPE thalweg_x gauge\nthalweg_host_up 0",
    "the type of a front's figure": "# TYPE thalweg_host_up counter",
    "a line that is no text": "thalweg_x\x00 1",
    "a name that is none": "9x 1",
}
_LINE = re.compile(
    r'# (HELP|TYPE) [a-z_]+ .+|[a-z_]+(\{([a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)*\})? (-?[0-9.e+]+|NaN|[+-]Inf)'
)


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_a_host_spoils_the_figures_of_no_other(line: str) -> None:
    good = '# HELP thalweg_y Y\n# TYPE thalweg_y gauge\nthalweg_y{a="b, {c} \\"d\\""} 2.5\n'
    told = merged({"evil": f"{line}\n{good}", "good": good}, {"calls": 3}, {"evil": True, "good": True})
    assert 'thalweg_y{host="good",a="b, {c} \\"d\\""} 2.5' in told.splitlines()
    assert all(_LINE.fullmatch(each) for each in told.splitlines())
    assert 'host="other"' not in told
    assert told.count("thalweg_host_up ") == 2 and 'thalweg_host_up{host="evil"} 1' in told
    kinds = [each.split()[2] for each in told.splitlines() if each.startswith("# TYPE")]
    assert len(kinds) == len(set(kinds))
