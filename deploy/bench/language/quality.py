"""Whether it can be told from a question alone which model will answer it rightly: `bench handoff quality`. Recorded.

594 plain questions of 61 templates and kinds (`questions.yaml`, `templates.yaml`, `more_templates.yaml`,
`unseen_templates.yaml`, written for this), answered once by the two smaller models, greedily, with `language.chat`'s
system prompt; verdicts by pattern. `learned` is the whole recipe: logistic regression, with a ridge, on the first 20
principal components of the question's MiniLM embedding and on its categories (`pipeline.handoff.quality`). Those are
features that a router has before a turn begins.

`auroc`: how often a question that is answered rightly is ranked above one that is not, each ranked by what was learned
from others; with a 95 % interval over templates drawn with repetition. `likelier_right`, `others_right`: the share of
right answers to that half of questions that is ranked higher, and to the other.

    unseen      learned from the first three files, tested on the templates of the fourth, which was written, and its
                answers recorded, after the recipe had been chosen on the first three
    template    all questions; what was learned has seen none of a question's template
    question    all questions; it has not seen the question, but others of its template

A router that knows what people will ask has the last one; one that meets them anew the others. Models that are right
nearly always leave nothing to tell apart: the largest is not among these. `calibrate` learns from all questions what
`language.chat` ships, of the model that could be told apart.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thalweg.deploy.bench.language.answers import questions
from thalweg.deploy.bench.language.recording import EDGE, FOG, recorded, templates
from thalweg.deploy.bench.result import OURS, Result, quantile
from thalweg.models.language.minilm import shared
from thalweg.pipeline.handoff.cascade import auroc
from thalweg.pipeline.handoff.quality import QuestionQuality, categories
from thalweg.stages.language.pool import expected

SPLITS, QUICK, FOLDS, DRAWS = 5, 2, 6, 1000
COMPONENTS, RIDGE, STEPS = 20, 1.0, 25
SHIPPED = (EDGE,)

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Questions:
    """`embedding` [questions, 384], `category` [questions, 17]; of each its template's number, whether that is of the
    file of unseen ones, and by model whether the answer was right (0, 1).
    """

    text: list[str]
    embedding: Array
    category: Array
    template: NDArray[np.int64]
    unseen: NDArray[np.bool_]
    right: dict[str, Array]

    def likely(self, model: str, learn: NDArray[np.bool_], test: NDArray[np.bool_]) -> Array:
        """[tested] how likely each is answered rightly, by what is learned from the others."""
        told = learned(self.embedding[learn], self.category[learn], self.right[model][learn])
        rows = np.flatnonzero(test)
        return np.array([told.of(self.text[row], self.embedding[row].tolist()) for row in rows])


def learned(embedding: Array, category: Array, right: Array) -> QuestionQuality:
    """From questions (embedding [n, 384], category [n, 17]) and verdicts [n]: Newton's method on the log likelihood."""
    middle, usual = embedding.mean(0), category.mean(0)
    basis = np.linalg.svd(embedding - middle, full_matrices=False)[2][:COMPONENTS].T  # [384, 20]
    parts = (embedding - middle) @ basis
    scale = float(parts.std())
    x = np.concatenate([np.ones((len(right), 1)), parts / scale, category - usual], 1)
    ridge = RIDGE * np.eye(x.shape[1])
    ridge[0, 0] = 1e-6
    weights = np.zeros(x.shape[1])
    for _ in range(STEPS):
        share = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
        curve = x.T @ (x * (share * (1 - share) + 1e-6)[:, None]) + ridge
        weights += np.linalg.solve(curve, x.T @ (right - share) - ridge @ weights)
    of_embedding, of_category = basis @ weights[1 : 1 + COMPONENTS] / scale, weights[1 + COMPONENTS :]
    bias = float(weights[0] - middle @ of_embedding - usual @ of_category)
    return QuestionQuality(of_embedding.tolist(), of_category.tolist(), bias)


def calibrate() -> None:
    """Keep what `language.chat` expects of questions by."""
    asked = _asked()
    told = {model: learned(asked.embedding, asked.category, asked.right[model]) for model in SHIPPED}
    kept = {
        model: {
            "embedding": [round(value, 4) for value in found.embedding],
            "category": [round(value, 4) for value in found.category],
            "bias": [round(found.bias, 4)],
        }
        for model, found in told.items()
    }
    path = Path(expected.__file__).with_name("quality.json")
    path.write_text(json.dumps(kept, separators=(",", ":")) + "\n", encoding="utf-8")


def measure(result: Result, quick: bool) -> None:
    """Rows per model and what was held out."""
    asked, splits = _asked(), QUICK if quick else SPLITS
    held_out: dict[str, Callable[[str], dict[str, float]]] = {
        "unseen": lambda model: _unseen(asked, model),
        "template": lambda model: _held_out(asked, model, asked.template, splits),
        "question": lambda model: _held_out(asked, model, np.arange(len(asked.template)), splits),
    }
    result.rounds.expect(2 * len(held_out))
    for model in (EDGE, FOG):
        for name, tell in held_out.items():
            what = f"{model}, {name}"
            found = result.rounds.ours(what, lambda m=model, t=tell: t(m))  # type: ignore[misc]
            tested = int(asked.unseen.sum()) if name == "unseen" else len(asked.text)
            result.add(what, OURS, tested, "", **found)


def _asked() -> Questions:
    said = recorded()
    seen = {**templates(), **questions(), **templates("more_templates")}
    groups = {**seen, **templates("unseen_templates")}
    given = [(text, pattern, n) for n, group in enumerate(groups.values()) for text, pattern in group.items()]
    template = np.array([n for *_, n in given])
    model = shared()
    embedding = np.array([model.value.embed(text) for text, *_ in given], np.float64)
    model.release()
    return Questions(
        [text for text, *_ in given],
        embedding,
        np.array([categories(text) for text, *_ in given]),
        template,
        template >= len(seen),
        {
            name: np.array(
                [float(pattern.search("".join(said[name][text]["tokens"])) is not None) for text, pattern, _ in given]
            )
            for name in (EDGE, FOG)
        },
    )


def _unseen(asked: Questions, model: str) -> dict[str, float]:
    likely = asked.likely(model, ~asked.unseen, asked.unseen)
    return _told([likely], asked.right[model][asked.unseen], asked.template[asked.unseen])


def _held_out(asked: Questions, model: str, groups: NDArray[np.int64], splits: int) -> dict[str, float]:
    rng, found = random.Random(11), []
    for _ in range(splits):
        likely, names = np.zeros(len(groups)), sorted(set(groups.tolist()))
        rng.shuffle(names)
        for fold in range(FOLDS):
            tested = np.isin(groups, names[fold::FOLDS])
            likely[tested] = asked.likely(model, ~tested, tested)
        found.append(likely)
    return _told(found, asked.right[model], asked.template)


def _told(splits: list[Array], right: Array, template: NDArray[np.int64]) -> dict[str, float]:
    """The mean over splits, and an interval of the mean ranking over them."""
    rng, names = random.Random(12), sorted(set(template.tolist()))
    likely, drawn = np.mean(splits, 0), []
    for _ in range(DRAWS):
        rows = np.concatenate([np.flatnonzero(template == name) for name in rng.choices(names, k=len(names))])
        drawn.append(_auroc(likely[rows], right[rows]))
    mean = float(np.mean([_auroc(each, right) for each in splits]))
    above = likely > np.median(likely)
    halves = {"likelier_right": float(right[above].mean()), "others_right": float(right[~above].mean())}
    return {"auroc": mean, "low_95": quantile(drawn, 0.025), "high_95": quantile(drawn, 0.975), **halves}


def _auroc(likely: Array, right: Array) -> float:
    return auroc(list(zip(likely.tolist(), (right > 0).tolist(), strict=True)))
