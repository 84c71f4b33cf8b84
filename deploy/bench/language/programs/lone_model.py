"""One model of the store behind an address of its own, to be killed: prints address and key, ends with its input."""

from __future__ import annotations

import json
import sys

from thalweg.models import ModelStore
from thalweg.models.language.llama import LlamaServer

if __name__ == "__main__":
    server = LlamaServer(ModelStore().path(sys.argv[1]), threads=1, slots=1)
    print(json.dumps({"url": server.url, "key": server.key}), flush=True)
    sys.stdin.read()
