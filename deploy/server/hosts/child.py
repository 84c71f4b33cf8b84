"""A conversation host in a process of its own: `python -m thalweg.deploy.server.hosts.child FOLDER`.

It reads its order from standard input, writes how it is reached into FOLDER, and serves. It outlives its parent
process: conversations go on while a front restarts (`host.py` says when it ends).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

from thalweg.deploy.server.hosts.host import ConversationHost, HostOrder
from thalweg.deploy.server.hosts.record import SUFFIX
from thalweg.stages.io.terminal import begin, log_to_stderr


async def main(order: HostOrder, folder: Path) -> None:
    """Serve until told to stop; what was written is taken away."""
    host = ConversationHost(order)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, host.stop)
    kept = folder / f"{order.name}{SUFFIX}"

    try:
        await host.run(lambda record: record.keep(folder))
    finally:
        for path in (kept, order.where):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


if __name__ == "__main__":
    begin()
    log_to_stderr(as_json=os.environ.get("THALWEG_LOG") == "json")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # its parent decides what an interrupt means
    asyncio.run(main(HostOrder.model_validate_json(sys.stdin.buffer.read()), Path(sys.argv[1])))
