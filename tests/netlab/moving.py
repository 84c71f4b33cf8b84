"""A pipeline whose stage moves, on a host of a lab: says where it is, and in the end what was wrong."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from thalweg.deploy.bench.fleet.moving import running


async def main(folder: Path) -> None:
    """Until SIGTERM."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    async with running(folder / "node", here_ms=80) as moving:
        before = ""
        while not stopping.is_set():
            where = "home" if moving.place == "edge" else "away"
            if where != before and moving.results:
                print(where, flush=True)
                before = where
            await asyncio.sleep(0.02)
    print(f"wrong {moving.wrong()}", flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
