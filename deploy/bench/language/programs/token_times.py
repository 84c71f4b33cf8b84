"""How long a model of the store takes for a token, with so many threads: `token_times MODEL THREADS`, prints JSON.

`token`: ms for one token of an answer; `tail`: ms for the seven tokens of a prompt that come behind a question's last
word, after the rest was read. Medians of ROUNDS, by llama.cpp's own clock.
"""

from __future__ import annotations

import json
import statistics
import sys
import urllib.request
from typing import Any

from thalweg.models import ModelStore
from thalweg.models.language.llama import LlamaServer

ROUNDS, READ, TAIL, TOKENS = 8, 24, 7, 24


def main(model: str, threads: int) -> None:
    """Measure."""
    server = LlamaServer(ModelStore().path(model), threads=threads, slots=1)
    tails, tokens = [], []
    for number in range(ROUNDS + 1):
        ids = range(1_000, 1_000 + READ)
        behind = range(2_000 + 100 * number, 2_000 + 100 * number + TAIL)
        times = _ask(server, [*ids, *behind])
        if number:  # the first reads everything
            tails.append(times["prompt_ms"])
            tokens.append(times["predicted_per_token_ms"])
    server.close()
    print(json.dumps({"token": statistics.median(tokens), "tail": statistics.median(tails)}))


def _ask(server: LlamaServer, prompt: list[int]) -> Any:
    body = {"prompt": prompt, "n_predict": TOKENS, "ignore_eos": True, "temperature": 0, "id_slot": 0}
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {server.key}"}
    request = urllib.request.Request(f"{server.url.removesuffix('/v1')}/completion", json.dumps(body).encode(), headers)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=120) as answer:
        return json.load(answer)["timings"]


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
