"""What each backend of a pool is expected to make of the question at hand: `by_question` of a pool's policy.

`quality.json` has what was learned of a model (`pipeline.handoff.quality`); `bench handoff calibrate` makes it from
recorded answers, docs/benchmarks/handoff.md says how well it tells them apart.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from thalweg.models.errors import ModelError
from thalweg.models.language.backend import BackendError, ErrorKind
from thalweg.models.language.minilm import SentenceModel, shared
from thalweg.models.store.sharing import Share, let_go
from thalweg.pipeline.handoff.quality import QuestionQuality


@cache
def known() -> dict[str, QuestionQuality]:
    """By model: what was learned of it."""
    text = files("thalweg.stages.language.pool").joinpath("quality.json").read_text(encoding="utf-8")
    given: dict[str, dict[str, list[float]]] = json.loads(text)
    return {
        model: QuestionQuality(found["embedding"], found["category"], found["bias"][0])
        for model, found in given.items()
    }


class Expected:
    """Of one pool. `models`: by name of a backend its model. Nothing is expected where none of them is known."""

    def __init__(self, models: Mapping[str, str]) -> None:
        self._known = {name: known()[model] for name, model in models.items() if model in known()}
        self._sentences: Share[SentenceModel] | None = None
        self._heard = ""
        self._likely: dict[str, float] = {}

    async def open(self) -> None:
        """Load the sentence model, where anything is known. Raises BackendError."""
        if not self._known or self._sentences is not None:
            return
        loading = asyncio.get_running_loop().run_in_executor(None, shared)
        try:
            self._sentences = await asyncio.shield(loading)
        except asyncio.CancelledError:
            loading.add_done_callback(let_go)
            raise
        except ModelError as error:
            raise BackendError(ErrorKind.SETTINGS, f"`by_question` cannot be had: {error}") from None

    def close(self) -> None:
        """Let go of the sentence model. Idempotent."""
        if self._sentences is not None:
            self._sentences.release()
            self._sentences = None

    async def hear(self, question: str) -> None:
        """A question, or the beginning of one: 8 ms of a thread, unless three quarters of it were heard before."""
        known = self._heard and question.startswith(self._heard) and 4 * len(self._heard) >= 3 * len(question)
        if self._sentences is None or known or not question.strip():
            return
        embedding = await asyncio.to_thread(self._sentences.value.embed, question)
        self._heard = question
        self._likely = {name: one.of(question, embedding.tolist()) for name, one in self._known.items()}

    def of(self, name: str, otherwise: float) -> float:
        """The share of such questions that a backend answers well; `otherwise` where nothing is known of it."""
        return self._likely.get(name, otherwise)
