"""People in one process: `python -m tests.netlab.talking URL COUNT`. Each asks a question and hears the answer.

Prints one JSON object: `sessions`, their ids, and `answers`.
"""

from __future__ import annotations

import asyncio
import json
import sys

from tests.deploy.server.hosts.housing import asked
from thalweg.transports.webrtc.client import Talker


async def main(url: str, count: int) -> None:
    """Talk, all at once, and hang up."""
    talkers = [Talker(url) for _ in range(count)]
    for talker in talkers:
        await talker.connect()
    sessions = [talker.session for talker in talkers]
    answers = await asyncio.gather(*(asked(talker, f"w{i} and more") for i, talker in enumerate(talkers)))
    await asyncio.gather(*(talker.end() for talker in talkers))
    print(json.dumps({"sessions": sessions, "answers": answers}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
