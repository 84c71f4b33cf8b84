"""A conversation that is kept in the cloud, on a host of a lab: says how far it is, and in the end what was said.

python -m tests.netlab.cloud_chat serve ADDRESS PORT     the model behind the lender
python -m tests.netlab.cloud_chat talk FOLDER URL        the node; URL: of that model
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from itertools import pairwise
from pathlib import Path

from tests.deploy.fleet.cloud_chat import ANSWER, FILE, RULE, TOKEN_S, Questions, Said, is_over, said, until
from thalweg.deploy.bench.language.modelserver import ModelServer
from thalweg.deploy.cluster.host import make_worker
from thalweg.deploy.fleet.placing import follow
from thalweg.deploy.fleet.placing.placed import PlacedStage
from thalweg.deploy.runtime.tasks import beside
from thalweg.pipeline.file.spec import load_spec
from thalweg.pipeline.fleet.agent_socket import NODE


async def serve(address: str, port: int) -> None:
    """Until it is killed."""
    async with ModelServer(ANSWER, token_s=TOKEN_S, host=address, port=port):
        print("serves", flush=True)
        await asyncio.Event().wait()


async def talk(folder: Path, url: str) -> None:
    """Three questions: says `begun` in the middle of the second answer, which the link is then cut in."""
    Questions.asked, Said.tokens = asyncio.Queue(), []
    follow.RULE, os.environ[NODE] = RULE, str(folder / "node/intake.sock")
    async with ModelServer(ANSWER, token_s=TOKEN_S) as edge:
        worker = make_worker("local", load_spec(FILE.format(edge=edge.url, cloud=url)))
        stage = worker.actors["chat"].stage
        assert isinstance(stage, PlacedStage)
        async with beside(worker.run()) as run:
            await until(lambda: stage.away is not None)
            await answered(1)
            Questions.asked.put_nowait("two?")
            await until(lambda: len(said(2).split()) >= 8)
            print("begun", flush=True)
            await until(lambda: is_over(2))
            place = "edge" if stage.away is None else "cloud"
            await answered(3)
            Questions.asked.put_nowait(None)
            await run
        times = [at for turn, *_, at in Said.tokens if turn == 2]
        pause_ms = max(1000 * (after - before) for before, after in pairwise(times))
        remembered = [each["content"] for each in edge.asked[-1]["messages"] if each["role"] != "system"]
    found = {"place": place, "said": [said(turn) for turn in (1, 2, 3)], "remembered": remembered}
    print(json.dumps(found | {"pause_ms": round(pause_ms)}), flush=True)


async def answered(turn: int) -> None:
    """Ask, and wait for the whole answer."""
    Questions.asked.put_nowait({1: "one?", 3: "three?"}[turn])
    await until(lambda: is_over(turn))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(serve(sys.argv[2], int(sys.argv[3])))
    else:
        asyncio.run(talk(Path(sys.argv[2]), sys.argv[3]))
