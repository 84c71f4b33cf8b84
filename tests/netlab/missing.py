"""The edge of `tests.netlab.misses`: frames by one system, for so long; prints when each was made and had its result.

`frames SYSTEM FOLDER SECONDS PIECES HOST PORT`, begun by a line on standard input once it has said `ready`. `thalweg`
and `edge` run the pipeline, on a node with lenders and on one without; `fog` and `cloud` send every frame to
`serve HOST PORT PIECES`, over one plain connection.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import struct
import sys
import time
from pathlib import Path

from thalweg.deploy.bench.fleet.cloud import LENT
from thalweg.deploy.cluster.host import make_worker
from thalweg.deploy.runtime.tasks import beside
from thalweg.pipeline.file.spec import load_spec
from thalweg.pipeline.fleet.agent_socket import NODE

GAP_S, DUE_S, SIZE = 0.1, 0.25, 30_000
HEAD = struct.Struct("!QQ")
FILE = """
name: missing
stages:
  numbers: {{use: "counting:Steady", gap_ms: {gap_ms}, size: {size}, deadline: {due_ms}ms}}
  detector: {{use: "hashing:Hashing", pieces: {pieces}}}
  noted: {{use: "counting:Noted"}}
connections:
  - numbers -> detector
  - detector -> noted
placement:
  detector: [edge, fog, cloud]
"""
Times = list[tuple[int, int]]


async def by_pipeline(folder: Path, seconds: float, pieces: int) -> Times:
    """(made, had its result) of each frame, ns."""
    os.environ[NODE] = str(folder / "intake.sock")
    sys.path.insert(0, str(LENT))
    file = FILE.format(gap_ms=GAP_S * 1000, size=SIZE, due_ms=round(DUE_S * 1000), pieces=pieces)
    worker = make_worker("local", load_spec(file))
    async with beside(worker.run()) as run:
        began_ns = await _begun()
        await asyncio.sleep(seconds + DUE_S)
        worker.stop()
        await run
    found = importlib.import_module("counting").Noted.results
    return [(made, done) for made, done, _ in found if made >= began_ns]


async def by_connection(seconds: float, host: str, port: int) -> Times:
    """The same of a place that is asked for everything."""
    found: Times = []
    reader, writer = await asyncio.open_connection(host, port)

    async def answers() -> None:
        while True:
            _, made = HEAD.unpack(await reader.readexactly(HEAD.size))
            found.append((made, time.monotonic_ns()))

    async def frames() -> None:
        next_s = time.monotonic()
        while True:
            await asyncio.sleep(next_s - time.monotonic())
            next_s += GAP_S
            writer.write(HEAD.pack(SIZE, time.monotonic_ns()) + bytes(SIZE))
            if writer.transport.get_write_buffer_size() > 10 * SIZE:  # a second of them: newer ones go first
                await writer.drain()
                next_s = max(next_s, time.monotonic())

    async with beside(answers()), beside(frames()):
        began_ns = await _begun()
        await asyncio.sleep(seconds + DUE_S)
    writer.transport.abort()
    return [(made, done) for made, done in found if made >= began_ns]


async def serve(host: str, port: int, pieces: int) -> None:
    """Do the work of each frame in turn; what is overdue already is left out."""
    sys.path.insert(0, str(LENT))
    work = importlib.import_module("hashing").work

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            size, made = HEAD.unpack(await reader.readexactly(HEAD.size))
            await reader.readexactly(size)
            if time.monotonic_ns() - made < DUE_S * 1e9:  # the hosts of a lab share their clock
                work(pieces)
                writer.write(HEAD.pack(0, made))

    async with await asyncio.start_server(one, host, port) as server:
        print("serves", flush=True)
        await server.serve_forever()


async def _begun() -> int:
    """When it was told to count, ns."""
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    return time.monotonic_ns()


async def main(command: str, *arguments: str) -> None:
    """See above."""
    if command == "serve":
        host, port, pieces = arguments
        await serve(host, int(port), int(pieces))
        return
    system, folder, seconds, pieces, host, port = arguments
    if system in ("thalweg", "edge"):
        found = await by_pipeline(Path(folder), float(seconds), int(pieces))
    else:
        found = await by_connection(float(seconds), host, int(port))
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
