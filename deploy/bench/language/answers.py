"""How often a language model is right, and how soon it begins: `bench answers`.

Sixty plain questions with checkable answers (`questions.yaml`), asked as `language.chat` asks them in the voice
examples: its system prompt, greedy, one thread, each in a conversation of its own. An answer is right where it holds
the pattern of its question: a verdict by machine, which now and then takes a lucky sentence for a right one.

Warm: the model has read along during the question, all but the last two words. Cold: it has read nothing of the prompt,
as behind another conversation. Clocks start with the final transcript; a clause is what `speech.sentences` hands to
speech synthesis first. Processor time is that of the whole process, and does not depend on other load of the machine.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import time
from collections import Counter
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from thalweg.deploy.bench.journal import Journal
from thalweg.deploy.bench.result import Result, quantile
from thalweg.models.language.registry import make
from thalweg.pipeline.duration import MS
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Payload, Sentence, Token
from thalweg.stages.language.chat import Chat
from thalweg.stages.language.conversation import Conversation
from thalweg.stages.language.model import Model
from thalweg.stages.language.reply import Reply
from thalweg.stages.speech.sentences import Sentences

MODELS = ("smollm2-135m-instruct", "qwen2.5-coder-0.5b-instruct", "qwen2.5-coder-1.5b-instruct")
_METHOD = "answers 1"
_PATIENCE_NS = 180_000 * MS
_COLD = 6
_QUICK = 3
_UNHEARD = 2
"""Words of a question that are still being recognised when the others have been read."""


def questions() -> dict[str, dict[str, re.Pattern[str]]]:
    """By kind: question → what a right answer holds."""
    text = files("thalweg.deploy.bench.language").joinpath("questions.yaml").read_text(encoding="utf-8")
    given: dict[str, dict[str, str]] = yaml.safe_load(text)
    return {
        kind: {question: re.compile(pattern, re.IGNORECASE) for question, pattern in asked.items()}
        for kind, asked in given.items()
    }


def measure(
    result: Result, quick: bool, model: str | None = None, json_path: Path | None = None, minutes: float | None = None
) -> None:
    """A row per model and kind. `model`: these only, with commas between. With `json_path` a later run goes on."""
    journal = Journal(
        json_path.with_suffix(".jsonl") if json_path is not None else None,
        _METHOD + " quick" * quick,
        minutes=minutes,
        rounds=result.rounds,
    )
    for name in model.split(",") if model else MODELS:
        found = journal.find(name, lambda name=name: asyncio.run(_examine(name, quick)))  # type: ignore[misc]
        if found is not None:
            _add(result, name, found)
    if journal.left:
        result.notes.append(f"{journal.left} models are left: the same command goes on with them")


async def _examine(name: str, quick: bool) -> dict[str, Any]:
    """`{warm: [asked], cold: [asked]}`, each with its question, answer, verdict and times."""
    backend = make("llamacpp", {}, {"model": name, "threads": 1, "retries": 0})
    spoken: dict[str, Any] = {name: each.default for name, each in inspect.signature(Chat).parameters.items()}
    asker = Model(
        backend, called=name, max_tokens=spoken["max_tokens"], temperature=0, timeout_ns=_PATIENCE_NS, counts=Counter()
    )
    await asker.open()
    warm, cold = [], []
    try:
        for kind, asked in questions().items():
            for question, pattern in list(asked.items())[: _QUICK if quick else None]:
                conversation = Conversation(spoken["system"], 0)
                head = " ".join(question.split()[:-_UNHEARD])
                await asker.read_along(conversation.messages(""), within_s=60)
                await asker.read_along(conversation.messages(head), within_s=60)
                found = await _ask(asker, conversation, question)
                warm.append(found | {"kind": kind, "right": pattern.search(found["answer"]) is not None})
        for n, question in enumerate(list(questions()["nature"])[: 1 if quick else _COLD]):
            cold.append(await _ask(asker, Conversation(f"{n}. {spoken['system']}", 0), question))
    finally:
        await backend.close()
    return {"warm": warm, "cold": cold}


async def _ask(asker: Model, conversation: Conversation, question: str) -> dict[str, Any]:
    reply = Reply(epoch=1, messages=conversation.messages(question))
    listener = _Listener()
    await asker.say(reply, listener)  # type: ignore[arg-type]  # all of a context that they use
    return {"question": question, "answer": reply.said, **listener.times, "tokens": len(reply.pieces)}


class _Listener:
    """What a model says and what is made of it, with when it came: `…_ms` by the clock, `…_cpu_ms` of the processor."""

    def __init__(self) -> None:
        self._began = time.monotonic(), time.process_time()
        self._sentences = Sentences()
        self.times: dict[str, float] = {}

    def emit(self, payload: Payload, port: str | None = None, **_: Any) -> None:
        """Note when the first of its kind came; tokens go on to where sentences are made."""
        name = "clause" if isinstance(payload, Sentence) else "token"
        if name not in self.times:
            wall, cpu = self._began
            self.times[name] = 1e3 * (time.monotonic() - wall)
            self.times[f"{name}_cpu"] = 1e3 * (time.process_time() - cpu)
        if isinstance(payload, Token):
            packet = Packet(payload=payload, stream="chat.token", seq=0, time=0, epoch=1)
            self._sentences.process(packet, self)  # type: ignore[arg-type]  # as above


def _add(result: Result, name: str, found: Mapping[str, Any]) -> None:
    warm = found["warm"]
    for kind in dict.fromkeys(each["kind"] for each in warm):
        of_kind = [each["right"] for each in warm if each["kind"] == kind]
        result.add(kind, name, len(of_kind), "of them", right=sum(of_kind))
    right, count = sum(each["right"] for each in warm), len(warm)
    low, high = interval(right, count)
    result.add("all", name, count, "%", right_share=100 * right / count, low_95=100 * low, high_95=100 * high)
    for state in ("warm", "cold"):
        for what in ("token", "clause"):
            for suffix, unit in (("", "ms"), ("_cpu", "ms of processor")):
                values = [each[what + suffix] for each in found[state]]
                label = f"first_{what}{suffix}"
                found_ms = {f"{label}_p50": quantile(values, 0.5), f"{label}_p95": quantile(values, 0.95)}
                result.add(state, name, len(values), unit, **found_ms)


def interval(right: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    z = 1.96
    share = right / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    reach = z / (1 + z * z / count) * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5
    return middle - reach, middle + reach
