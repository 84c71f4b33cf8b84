"""A language model of the store, in this process. Pipelines of one process that name the same one share it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Annotated

from pydantic import Field

from thalweg.models.errors import ModelError
from thalweg.models.language.backend import Abilities, BackendError, Delta, ErrorKind, Request
from thalweg.models.language.llama import LlamaServer
from thalweg.models.language.openai_backend import OpenAIBackend
from thalweg.models.store.sharing import Share, let_go
from thalweg.models.store.store import ModelStore


class LlamaCppBackend:
    """Answers with llama.cpp; see `llama.py` for who can connect to it and for what it keeps in memory."""

    abilities = Abilities(continues="prefix", logprobs=True, reads_along=True)

    def __init__(
        self,
        model: Annotated[str, Field(description="name in the model store")],
        threads: Annotated[int | None, Field(ge=1)] = None,
        retries: Annotated[int, Field(ge=0, le=10)] = 2,
        file: Annotated[str, Field(description="path of a GGUF file, in place of the store's")] = "",
        context: Annotated[int, Field(ge=256, description="tokens of one conversation, prompt and answer")] = 2048,
        gpu_layers: Annotated[
            int | None, Field(ge=0, description="layers that a GPU computes; default: as llama.cpp decides")
        ] = None,
    ) -> None:
        self._model, self._threads, self._retries = model, threads, retries
        self._file, self._context, self._gpu_layers = file, context, gpu_layers
        self._server: Share[LlamaServer] | None = None
        self._client: OpenAIBackend | None = None
        self._slot: int | None = None

    @property
    def name(self) -> str:
        """It and its model."""
        return f"the embedded language model {self._model}"

    async def open(self) -> None:
        """Load the model, unless this process has it already."""
        loading = asyncio.get_running_loop().run_in_executor(None, self._load)
        try:
            self._server = await asyncio.shield(loading)
        except asyncio.CancelledError:
            loading.add_done_callback(let_go)
            raise
        except ModelError as error:
            raise BackendError(ErrorKind.SETTINGS, f"cannot be used: {error}") from None
        server = self._server.value
        self._slot = server.take_slot()
        self._client = OpenAIBackend.of_this_process(self._model, server.url, server.key, self._retries, self._slot)
        await self._client.open()

    async def close(self) -> None:
        """Close the connection, and release the model, which is freed with its last user."""
        if self._client is not None:
            await self._client.close()
        server, self._server = self._server, None
        if server is not None:
            if self._slot is not None:
                server.value.give_back(self._slot)
            server.release()

    async def reply(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Answer."""
        assert self._client is not None, "open() comes first"
        async with aclosing(self._client.reply(request)) as deltas:
            async for delta in deltas:
                yield delta

    async def prefill(self, request: Request) -> None:
        """Read along: what is read stays in the slot for the reply."""
        if self._client is not None:
            await self._client.prefill(request)

    def _load(self) -> Share[LlamaServer]:
        path = Path(self._file).expanduser() if self._file else ModelStore().path(self._model)
        threads, context, gpu_layers = self._threads, self._context, self._gpu_layers
        return Share(
            ("llama", path, threads, context, gpu_layers),
            lambda: LlamaServer(path, threads=threads, context=context, gpu_layers=gpu_layers),
            LlamaServer.close,
        )
