"""A language model in this process: llama.cpp (through `xllamacpp`, MIT) behind its own HTTP server on loopback.

The server speaks the same protocol as every other back end, so there is one client for all of them, and
hanging up is how generation is stopped.
"""

from __future__ import annotations

import os
from pathlib import Path


class LlamaServer:
    """Serves one GGUF file. `url`: base address of the OpenAI-compatible interface, on loopback.

    `slots`: conversations that are answered at the same time, each with `context` tokens of its own; more of them wait.
    `threads`: by default one fewer than there are cores, and at most four. The threads of llama.cpp spin while they
    wait for each other after every operation, so that one of them without a core stops them all: with two of them on
    two cores, beside one busy thread, generation fell from 125 to 4 tokens a second; one alone keeps 50 of its 80.
    """

    def __init__(self, model: Path, *, context: int = 2048, threads: int | None = None, slots: int = 4) -> None:
        import xllamacpp

        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(model)
        parameters.n_ctx = context * slots
        parameters.n_parallel = slots
        parameters.verbosity = -1
        parameters.port = 0
        parameters.cpuparams.n_threads = threads or min(4, max(1, (os.cpu_count() or 1) - 1))
        parameters.cpuparams_batch.n_threads = parameters.cpuparams.n_threads
        self._server = xllamacpp.Server(parameters)
        self.url = f"{self._server.listening_address}/v1"

    def close(self) -> None:
        """Stop serving and free the model. Idempotent."""
        self._server = None
