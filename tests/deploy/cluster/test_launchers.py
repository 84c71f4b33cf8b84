"""Launchers of other packages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

LAUNCHER = """
from thalweg.deploy.cluster.subprocess_host import SubprocessCarrier


def launch(order):
    print("launching", order.worker.name, "in", order.worker.options["where"], flush=True)
    return SubprocessCarrier(order.worker.name, order.bundle, order.on_problem, order.log)
"""
PROGRAM = """
import asyncio

import thalweg
from thalweg import Token

pipeline = thalweg.Pipeline()
pipeline.add("sentences", "speech.sentences")
pipeline.worker("far", launcher="acme", where="Elbonia")
pipeline.place("sentences", worker="far")


async def main():
    async with pipeline.run() as run:
        await run.send("sentences.token", Token(text="Hello there.", last=True), epoch=1)
        await run.finish()
        async for packet in run.packets("sentences.sentence"):
            print(packet.payload.text)


asyncio.run(main())
"""


def test_a_launcher_that_a_package_registers_is_used_by_its_name_and_gets_its_own_options(tmp_path: Path) -> None:
    (tmp_path / "acme.py").write_text(LAUNCHER, encoding="utf-8")
    info = tmp_path / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[thalweg.launchers]\nacme = acme:launch\n", encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), *(entry for entry in sys.path if entry)])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.splitlines()[:2] == ["launching far in Elbonia", "Hello there."], done.stderr
