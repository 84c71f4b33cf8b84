"""`python -m tests.entered`: which modules of ours a small pipeline file's path enters before its source runs.

Printed in the order in which they are first called, then the calls that step back into one that had led there.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from types import FrameType

STAGES = """
from thalweg.pipeline.payload import Token


class Source:
    outputs = {"token": Token}

    async def run(self, ctx):
        ctx.emit(Token(text="a", last=True), time=0)


class Sink:
    inputs = {"token": Token}

    def process(self, packet, ctx):
        pass
"""
FILE = """
name: small
stages: {source: {use: "small_stages:Source"}, sink: {use: "small_stages:Sink"}}
connections: [source -> sink]
"""


def entered(file: Path) -> tuple[list[str], set[tuple[str, str]]]:
    """Modules in order, and (from, back into)."""
    from thalweg.deploy.commands.run import Outputs, run_file

    found: list[str] = []
    back: set[tuple[str, str]] = set()

    def look(frame: FrameType, event: str, _: object) -> None:
        name = frame.f_globals.get("__name__", "")
        if event != "call" or not name.startswith(("thalweg", "small_stages")):
            return
        if name == "small_stages":
            if frame.f_code.co_name == "run":
                sys.setprofile(None)
            return
        callers, above = [], frame.f_back
        while above is not None:
            caller = above.f_globals.get("__name__", "")
            if caller.startswith("thalweg") and caller != (callers[-1] if callers else name):
                callers.append(caller)
            above = above.f_back
        if name in callers:
            back.add((callers[0], name))
        if name not in found:
            found.append(name)

    sys.setprofile(look)
    try:
        run_file(file, {}, Outputs(), live=False, quiet=True)
    finally:
        sys.setprofile(None)
    return found, back


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "small_stages.py").write_text(STAGES, encoding="utf-8")
        (Path(folder) / "small.yaml").write_text(FILE, encoding="utf-8")
        modules, steps_back = entered(Path(folder) / "small.yaml")
    print("\n".join([*modules, *(f"back: {one} calls {other}" for one, other in sorted(steps_back))]))
    print(f"{len(modules)} modules, {len(steps_back)} steps back")
