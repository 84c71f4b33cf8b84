"""The image: what the Dockerfile, the script that builds it without a registry, compose, chart and lock say agrees.

Building takes minutes, so that is not a test; docs/benchmarks/operate.md has what came of it.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CONTAINER = ROOT / "deploy" / "container"
SCRIPT = (CONTAINER / "build-without-registry.sh").read_text(encoding="utf-8")
DOCKERFILE = (CONTAINER / "Dockerfile").read_text(encoding="utf-8")
LOCKED = re.search(
    r"^define locked.*?^endef", (ROOT / "Makefile").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
)
LOCKS = [CONTAINER / "requirements.txt", CONTAINER / "requirements-ray.txt"]
DEBIANS = {"bookworm": "3.11", "trixie": "3.13"}
"""The Python of each Debian, https://packages.debian.org/python3."""


def instructions() -> list[tuple[str, str]]:
    """Those of the Dockerfile, in order, each on one line."""
    lines = DOCKERFILE.replace("\\\n", "").splitlines()
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines if line and line[0] != "#")]


def said(name: str) -> str:
    """The last of an instruction: that of the image, not of the stages before."""
    return dict(instructions())[name]


def test_the_lock_is_for_the_python_of_the_debian_that_the_image_stands_on() -> None:
    assert LOCKED is not None
    (debian,) = re.findall(r"^ARG BASE=debian:(\w+)-slim$", DOCKERFILE, re.MULTILINE)
    assert f"--python-version {DEBIANS[debian]} " in LOCKED[0]
    assert f"localhost/debian:{debian}-slim" in SCRIPT
    assert f"debootstrap --variant=minbase {debian} " in SCRIPT
    assert re.findall(r"debian (\w+)'", SCRIPT) == [debian]


def test_everything_that_is_installed_has_a_hash_and_nothing_is_built_with_what_has_none() -> None:
    installs = [rest for name, rest in instructions() if name == "RUN" and " install --no-cache-dir" in rest]
    locked, own = installs
    assert "--require-hashes" in locked and "--only-binary :all:" in locked and "--no-deps" in locked
    assert "--no-deps" in own and "--no-build-isolation" in own
    for lock in LOCKS:
        for name in re.findall(r"^[a-z]+", (CONTAINER / "requirements.in").read_text(encoding="utf-8"), re.MULTILINE):
            assert re.search(rf"^{name}==", lock.read_text(encoding="utf-8"), re.MULTILINE), f"{lock}: {name}"


def test_the_image_is_nobody_in_particular_and_writes_where_its_volume_is() -> None:
    home = said("WORKDIR")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", said("USER"))
    assert said("VOLUME") == home
    told = dict(pair.split("=", 1) for pair in shlex.split(said("ENV")))
    assert all(told[name].startswith(home) for name in ("HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"))
    owned = f"install -d -o thalweg -g thalweg {home} {told['XDG_CACHE_HOME']}"  # a new volume takes its owner over
    assert any(rest.endswith(owned) for _, rest in instructions())
    assert json.loads(said("ENTRYPOINT")) == ["thalweg"]
    assert f":{home}" in SCRIPT


def test_the_script_runs_it_with_nothing_that_it_does_not_need() -> None:
    (command,) = re.findall(r"exec podman (.*?)\"\$@\"", SCRIPT, re.DOTALL)
    for option in (
        "--runtime runc",
        "--read-only",
        "--cap-drop all",
        "--security-opt no-new-privileges",
        "--tmpfs /tmp",
    ):
        assert option in command
    assert "--privileged" not in SCRIPT and "seccomp=unconfined" not in SCRIPT


@pytest.mark.real
def test_the_script_says_what_it_does_where_it_is_not_told() -> None:
    done = subprocess.run(
        ["bash", str(CONTAINER / "build-without-registry.sh")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "build-without-registry.sh build" in done.stdout and "VOLUME" in done.stdout
