"""Whether it can be told from a question alone which model will answer it rightly: `bench handoff quality`. Recorded.

375 plain questions of 33 templates and kinds (`questions.yaml`, `templates.yaml`, `more_templates.yaml`, written for
this), answered once by the two smaller models, greedily, with `language.chat`'s system prompt; verdicts by pattern. For
each model a ridge regression on the question's MiniLM embedding and its number of words says how likely its answer is
right (`Likely`, which is the whole recipe). Those are all features that a router has before a turn begins.

`auroc`: how often a question that is answered rightly is ranked above one that is not, each ranked by a model that has
seen none of its template (`template`), or not itself but others of its template (`question`); with a 95 % interval over
templates drawn with repetition. A router that knows what people will ask has the second; one that meets them anew the
first. Models that are right nearly always leave nothing to tell apart: the largest is not among these.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thalweg.deploy.bench.language.answers import questions
from thalweg.deploy.bench.language.recording import EDGE, FOG, recorded, templates
from thalweg.deploy.bench.result import OURS, Result, quantile
from thalweg.models import ModelStore
from thalweg.models.language.minilm import SentenceModel
from thalweg.pipeline.handoff.cascade import auroc

SPLITS, QUICK, FOLDS, DRAWS = 5, 2, 6, 100
RIDGE = 3.0

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Questions:
    """`features` [questions, 385]; of each its template's number, and by model whether the answer was right (0, 1)."""

    features: Array
    template: NDArray[np.int64]
    right: dict[str, Array]


class Likely:
    """How likely an answer is right: ridge regression of verdicts [n] on features [n, d]."""

    def __init__(self, features: Array, right: Array) -> None:
        self._middle, self._share = features.mean(0), float(right.mean())
        rows = features - self._middle
        self._weights = np.linalg.solve(rows.T @ rows + RIDGE * np.eye(rows.shape[1]), rows.T @ (right - self._share))

    def of(self, features: Array) -> Array:
        """[n], about 0…1."""
        likely: Array = self._share + (features - self._middle) @ self._weights
        return likely


def measure(result: Result, quick: bool) -> None:
    """Rows per model and what was held out."""
    asked, splits = _asked(), QUICK if quick else SPLITS
    result.rounds.expect(4)
    for model in (EDGE, FOG):
        for held_out in ("template", "question"):
            what = f"{model}, {held_out} held out"
            found = result.rounds.ours(what, lambda m=model, h=held_out: _tell(asked, m, h, splits))  # type: ignore[misc]
            result.add(what, OURS, len(asked.template), "", **found)


def _asked() -> Questions:
    store, said = ModelStore(), recorded()
    name = "all-minilm-l6-v2"
    sentences = SentenceModel(store.path(name, "model.safetensors"), store.path(name, "vocab.txt"))
    groups = {**templates(), **questions(), **templates("more_templates")}
    features, template = [], []
    right: dict[str, list[float]] = {model: [] for model in (EDGE, FOG)}
    for n, group in enumerate(groups.values()):
        for question, pattern in group.items():
            features.append([*sentences.embed(question), len(question.split()) / 10])
            template.append(n)
            for model, verdicts in right.items():
                verdicts.append(float(pattern.search("".join(said[model][question]["tokens"])) is not None))
    return Questions(np.array(features), np.array(template), {model: np.array(v) for model, v in right.items()})


def _tell(asked: Questions, model: str, held_out: str, splits: int) -> dict[str, float]:
    right, found = asked.right[model], []
    rng = random.Random(11)
    groups = asked.template if held_out == "template" else np.arange(len(right))
    for _ in range(splits):
        likely, names = np.zeros(len(right)), list(dict.fromkeys(groups.tolist()))
        rng.shuffle(names)
        for fold in range(FOLDS):
            tested = np.isin(groups, names[fold::FOLDS])
            likely[tested] = Likely(asked.features[~tested], right[~tested]).of(asked.features[tested])
        found.append(likely)
    scores = [auroc(list(zip(likely.tolist(), right > 0, strict=True))) for likely in found]
    low, high = _interval(np.mean(found, 0), right, asked.template)
    return {"auroc": float(np.mean(scores)), "low_95": low, "high_95": high}


def _interval(likely: Array, right: Array, template: NDArray[np.int64]) -> tuple[float, float]:
    rng, names = random.Random(12), sorted(set(template.tolist()))
    found = []
    for _ in range(DRAWS):
        drawn = np.concatenate([np.flatnonzero(template == name) for name in rng.choices(names, k=len(names))])
        found.append(auroc(list(zip(likely[drawn].tolist(), right[drawn] > 0, strict=True))))
    return quantile(found, 0.025), quantile(found, 0.975)
