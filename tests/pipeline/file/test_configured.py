"""Of some stages there may be one."""

from __future__ import annotations

import pytest

from tests.conftest import require_package
from thalweg.pipeline.file.source import SpecError
from thalweg.pipeline.file.spec import load_spec

TWO = """
name: two
stages:
  action: {use: mavlink.action, link: "udp:0.0.0.0:14551"}
  more: {use: mavlink.action, link: "udp:0.0.0.0:14552"}
  print: {use: sink.console}
connections:
  - action.outcome -> print.token
"""


def test_two_that_would_share_commands_are_refused_with_the_line_and_one_is_not() -> None:
    require_package("pydantic", "edge")
    with pytest.raises(SpecError, match=r"two.yaml:5.*'more' is another mavlink.action beside 'action'"):
        load_spec(TWO, "two.yaml")
    load_spec("\n".join(line for line in TWO.splitlines() if "more" not in line), "two.yaml")
