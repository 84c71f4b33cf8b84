"""How well it is known when a backend will answer: `bench handoff learning`. Drawn answers, no clock at all.

Answers with prompts of a growing conversation, t_first = c + a · tokens, times a log-normal error; the model
(`pipeline/handoff/latency.py`) says before each when it will come. `covered`: of answers behind the twentieth, the
share that came before the 95 % quantile that was said. `error`: of the expectation, against what was drawn from, at the
median. After a change of the link to 4 times or a quarter as far: the error of what is said before the sixth answer,
and the share of changes after which it is at most 25 %.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from statistics import median

from thalweg.deploy.bench.result import OURS, Result, quantile
from thalweg.pipeline.handoff.latency import LatencyModel

LINKS = {"near": (40.0, 0.05, 0.15), "far": (250.0, 0.2, 0.15), "mobile": (400.0, 0.2, 0.35), "busy": (900.0, 0.1, 0.4)}
"""Name → c in ms, a in ms per token, the error's standard deviation in logarithms."""
ANSWERS, CHANGES, QUICK = 2000, 2000, 40
FRESH = 900_000
"""Where seeds begin. The rules were set on others; these were drawn for the numbers alone."""
LEARNED = 0.25


def measure(result: Result, quick: bool) -> None:
    """Rows per link."""
    answers, changes = (300, QUICK) if quick else (ANSWERS, CHANGES)
    result.rounds.expect(2 * len(LINKS))
    for name, link in LINKS.items():
        covered, errors = result.rounds.ours(f"{name}, {answers} answers", lambda link=link: _cover(link, answers))  # type: ignore[misc]
        result.add(name, OURS, answers, "%", covered=100 * sum(covered) / len(covered), error=100 * median(errors))
        for factor in (4.0, 0.25):
            found = [_change(link, factor, seed) for seed in range(changes)]
            case = f"{name}, × {factor:g}"
            learned = sum(error <= LEARNED for error in found) / changes
            result.add(case, OURS, changes, "%", error_p50=100 * quantile(found, 0.5), learned=100 * learned)


def _prompts(rng: random.Random) -> Iterator[int]:
    """Tokens of a conversation that grows and begins anew."""
    tokens = 60
    while True:
        yield tokens
        tokens = tokens + rng.randrange(15, 60) if tokens < 700 and rng.random() > 0.05 else rng.randrange(30, 90)


def _cover(link: tuple[float, float, float], answers: int) -> tuple[list[bool], list[float]]:
    (c, a, spread), rng, model = link, random.Random(FRESH), LatencyModel()
    covered, errors = [], []
    for n, tokens in zip(range(answers), _prompts(rng), strict=False):
        first_ms = (c + a * tokens) * rng.lognormvariate(0, spread)
        if n >= 20:
            covered.append(first_ms <= model.first_ms_at(0.95, tokens))
            errors.append(abs(model.expected_first_ms(tokens) / (c + a * tokens) - 1))
        model.observe(tokens, first_ms)
    return covered, errors


def _change(link: tuple[float, float, float], factor: float, seed: int) -> float:
    """The error of the expectation five answers behind a change."""
    (c, a, spread), rng, model = link, random.Random(FRESH + seed), LatencyModel()
    prompts = _prompts(rng)
    for n in range(rng.randrange(30, 90) + 5):
        del n
        tokens = next(prompts)
        model.observe(tokens, (c + a * tokens) * rng.lognormvariate(0, spread))
    for _ in range(5):
        tokens = next(prompts)
        model.observe(tokens, (c * factor + a * tokens) * rng.lognormvariate(0, spread))
    tokens = next(prompts)
    return abs(model.expected_first_ms(tokens) / (c * factor + a * tokens) - 1)
