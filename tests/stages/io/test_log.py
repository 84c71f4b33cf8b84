"""The log, as objects and as text: each line is of one event, whatever is said."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.real

PROGRAM = """
import logging
from thalweg.stages.io.terminal import log_to_stderr
log_to_stderr(as_json=True)
log = logging.getLogger("thalweg.x")
log.info("one\\ntwo \x1b[2J", extra={"fields": {"event": "turn", "ms": 3}})
try:
    1 / 0
except ZeroDivisionError:
    log.exception("broke")
logging.getLogger("other").info("left out")
"""


def test_each_line_of_the_log_is_an_object_with_its_fields() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True)
    first, second = map(json.loads, done.stderr.splitlines())
    assert {"level": "info", "logger": "thalweg.x", "event": "turn", "ms": 3}.items() <= first.items()
    assert "\x1b" not in done.stderr and first["message"].startswith("one") and first["time"] > 1e9
    assert "ZeroDivisionError" in second["message"] and second["level"] == "error"


SAYING = """
import sys
from thalweg.stages.io.terminal import begin, log_to_stderr, say
begin()
log_to_stderr(as_json=True)
say("serving at …", err=True)
say("an answer")
raise ValueError("broke")
"""


def test_what_is_said_beside_the_log_is_an_object_too() -> None:
    done = subprocess.run([sys.executable, "-c", SAYING], capture_output=True, text=True, timeout=60, check=False)
    said, broke = map(json.loads, done.stderr.splitlines())
    assert (said["message"], said["level"], said["logger"]) == ("serving at …", "info", "thalweg")
    assert "ValueError: broke" in broke["message"] and broke["level"] == "error"
    assert done.stdout == "an answer\n"


@pytest.mark.parametrize("arguments", [["serve", "nowhere.yaml"], ["serve", "--no-such-option"]])
def test_an_error_that_ends_a_command_is_an_object_too(arguments: list[str]) -> None:
    command = [sys.executable, "-P", "-m", "thalweg.deploy", "--log", "json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    (said,) = map(json.loads, done.stderr.splitlines())
    assert said["level"] == "error" and arguments[1].strip("-") in said["message"]


FORGING = """
import logging
from thalweg.stages.io.terminal import log_to_stderr
log_to_stderr()
log = logging.getLogger("thalweg.x")
log.warning("it said %s", "hello\\nnode drone-7 was enrolled\\r\\nand\\x85so\\u2028on")
log.warning("next")
"""


def test_no_line_in_a_foreign_text_passes_for_a_line_of_the_log() -> None:
    done = subprocess.run([sys.executable, "-c", FORGING], capture_output=True, text=True, timeout=60, check=True)
    assert [line for line in done.stderr.split("\n") if line[:1] not in ("", " ")] == ["it said hello", "next"]
    assert "    node drone-7 was enrolled" in done.stderr
