"""A command that lacks a package says which extra brings it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import EXAMPLES
from thalweg.deploy.commands.doctor import extra_with

pytestmark = pytest.mark.real

CHAT = str(EXAMPLES / "voice_chat.yaml")
RUN = "import sys; sys.modules[sys.argv.pop(1)] = None; from thalweg.deploy.__main__ import main; main()"


@pytest.mark.parametrize(
    ("module", "arguments", "extra"),
    [
        ("aiortc", ["serve", CHAT], "webrtc"),
        ("aiortc", ["serve", "hosts"], "webrtc"),
        ("aiortc", ["bench", "glass"], "webrtc"),
        ("aiohttp", ["hub", "nodes"], "hub"),
    ],
)
def test_what_is_missing_and_how_to_get_it_is_said_in_a_line(module: str, arguments: list[str], extra: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN, module, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2
    assert done.stderr == f"thalweg: the package {module} is missing: pip install 'thalweg[{extra}]'\n"


def test_an_unknown_module_has_no_extra() -> None:
    assert extra_with("nowhere", ["run", CHAT]) == ""
    assert (extra_with("grpc", []), extra_with("cv2", []), extra_with("prometheus_client", [])) == (
        "grpc",
        "video",
        "metrics",
    )
