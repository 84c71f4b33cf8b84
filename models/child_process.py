"""Python processes of ours take their modules from where we do, in the same order, and from nowhere else.

`python -m` looks into the current folder first, before its own library: a `struct.py` that lies beside a recording
would be run by a command that only reads that recording.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Mapping

_SECRET = re.compile(r"(^|_)(KEY|TOKEN|SECRET|CREDENTIALS?|PASS)(_|$)|PASSWORD|PASSWD", re.IGNORECASE)


def python_module(name: str, *arguments: str) -> list[str]:
    """The command that runs the module `name` in a new Python, as `python -m` does, the current folder left out."""
    return [sys.executable, "-P", "-m", name, *arguments]


def module_path() -> dict[str, str]:
    """What the environment of such a process has in addition, so that it finds what this one finds."""
    return {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}


def without_secrets(environ: Mapping[str, str], keep: Collection[str] = ()) -> dict[str, str]:
    """An environment for a process that works on what strangers made: without the variables whose names say that they
    hold a secret (`OPENAI_API_KEY`, `HF_TOKEN`, `AWS_SECRET_ACCESS_KEY`), except those to `keep`.
    """
    return {name: value for name, value in environ.items() if name in keep or not _SECRET.search(name)}
