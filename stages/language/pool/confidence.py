"""From which score on answers of a model are taken: what is known of the models whose answers were looked through.

`confidence.json` has for each model the scores of answers to plain questions with their verdicts; `bench handoff
calibrate` makes it from recorded answers.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

from thalweg.pipeline.handoff.cascade import threshold


@cache
def known() -> dict[str, list[tuple[float, bool]]]:
    """By model: (score, whether the answer was right)."""
    text = files("thalweg.stages.language.pool").joinpath("confidence.json").read_text(encoding="utf-8")
    given: dict[str, list[tuple[float, int]]] = json.loads(text)
    return {model: [(value, bool(right)) for value, right in answers] for model, answers in given.items()}


def accepted_from(model: str, risk: float) -> float | None:
    """The threshold for a model; None where nothing is known of it."""
    answers = known().get(model)
    return None if answers is None else threshold(answers, risk)
