"""Answers of the store's models, recorded once: `bench handoff record`.

Replayed with paced tokens they stand for models that would starve each other on one machine.

Recorded of each question: the tokens with their log-probabilities and margins, when they came, and how long the prompt
was. Long answers, for being broken off in the middle, are those to `PROMPTS`.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import time
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from thalweg.deploy.bench.language.answers import questions
from thalweg.models.language.backend import Finish, Message, Request, Text, Usage
from thalweg.models.language.registry import make
from thalweg.stages.io.terminal import say

FILE = "recorded.json.gz"
EDGE, FOG, CLOUD = "smollm2-135m-instruct", "qwen2.5-coder-0.5b-instruct", "qwen2.5-coder-1.5b-instruct"
MODELS = (EDGE, FOG, CLOUD)
SYSTEM = "You are a helpful voice assistant. Answer in one or two short, plain sentences."
LONGER = "You are a helpful voice assistant. Answer in one plain paragraph of about six sentences."
_ABOUT = """the moon, how bread is made, bicycles, the city of Rome, volcanoes, how a refrigerator works, tea, whales,
the Roman Empire, how rain forms, pianos, a day at the sea, the human heart, how to plant a tree, chess, the desert,
bees, why leaves fall in autumn, trains, a good breakfast"""
_HOW = ("Tell me about", "Explain to me", "What should I know about", "Describe")
PROMPTS = tuple(f"{_HOW[n % len(_HOW)]} {what.strip()}" for n, what in enumerate(_ABOUT.split(",")))


def templates(name: str = "templates") -> dict[str, dict[str, re.Pattern[str]]]:
    """By template: question → what a right answer holds. `name`: of the file, `templates`,
    `more_templates` or `unseen_templates`.
    """
    text = files("thalweg.deploy.bench.language").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    given: dict[str, dict[str, str]] = yaml.safe_load(text)
    return {
        template: {template.replace("{}", str(what)): re.compile(p, re.IGNORECASE) for what, p in asked.items()}
        for template, asked in given.items()
    }


def recorded() -> dict[str, dict[str, Any]]:
    """By model: question → what was recorded (`tokens`, `logprobs`, `margins`, `at_ms`, `prompt`)."""
    data = files("thalweg.deploy.bench.language").joinpath(FILE).read_bytes()
    found: dict[str, dict[str, Any]] = json.loads(gzip.decompress(data))
    return found


def record() -> None:
    """Ask the models, one after the other, what they were not asked yet, and keep the answers."""
    path, found = Path(__file__).with_name(FILE), recorded()
    for name in MODELS:
        before = found.get(name, {})
        found[name] = before | asyncio.run(_record(name, before))
        path.write_bytes(gzip.compress(json.dumps(found, separators=(",", ":")).encode(), mtime=0))


async def _record(name: str, before: Mapping[str, Any]) -> dict[str, Any]:
    asked = [(LONGER, prompt, 120) for prompt in PROMPTS] if name == CLOUD else []
    groups = [questions(), templates()]
    if name != CLOUD:  # it is right nearly always, which leaves nothing to learn from
        groups += [templates("more_templates"), templates("unseen_templates")]
    asked += [(SYSTEM, question, 64) for group in groups for kind in group.values() for question in kind]
    asked = [each for each in asked if each[1] not in before]
    answers: dict[str, Any] = {}
    if not asked:
        return answers
    backend = make("llamacpp", {}, {"model": name, "threads": 1, "retries": 0})
    await backend.open()
    try:
        for n, (system, question, most) in enumerate(asked):
            messages = [Message("system", system), Message("user", question)]
            request = Request(messages=messages, max_tokens=most, logprobs=True)
            answers[question] = await _answer(backend, request)
            if n % 20 == 0:
                say(f"{name}: {n} of {len(asked)}", err=True)
    finally:
        await backend.close()
    return answers


async def _answer(backend: Any, request: Request) -> dict[str, Any]:  # Any: a `Backend`
    began, tokens, usage, reason = time.monotonic(), [], Usage(), ""
    async for delta in backend.reply(request):
        if isinstance(delta, Text):
            at_ms = round(1e3 * (time.monotonic() - began))
            tokens.append((delta.text, delta.logprobs, delta.margins, at_ms))
        elif isinstance(delta, Usage):
            usage = delta
        elif isinstance(delta, Finish):
            reason = delta.reason.value
    return {
        "tokens": [text for text, *_ in tokens],
        "logprobs": [round(sum(logprobs), 3) for _, logprobs, *_ in tokens],
        "margins": [round(min(margins, default=0.0), 3) for _, _, margins, _ in tokens],
        "at_ms": [at_ms for *_, at_ms in tokens],
        "prompt": usage.prompt_tokens,
        "reason": reason,
    }
