"""Whether a small model's answers can be told apart at their first clause: `bench handoff cascade`. Recorded answers.

`auroc`: how often a right answer's score is above a wrong one's, with its 95 % interval (templates drawn with
repetition). Templates are split at random into half to set the threshold by and half to test on, many times: `taken`
are answers that are given out, `risk` those that are taken and wrong, of all questions; `right` of all, where the large
model answers the others; `cloud_tokens`, against asking it always. `random` takes as many, whichever they are.
`risk_p95`: over the splits. `audit`: how many wrong and right answers an audit calls apart from the large model's.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from thalweg.deploy.bench.language.answers import questions
from thalweg.deploy.bench.language.recording import CLOUD, EDGE, recorded, templates
from thalweg.deploy.bench.result import OURS, Result, quantile
from thalweg.pipeline.handoff.agreement import agree
from thalweg.pipeline.handoff.cascade import auroc, score, threshold
from thalweg.stages.language.pool import confidence

RISKS = (0.05, 0.1, 0.2)
SPLITS, QUICK = 400, 20
TAKEN = 0.55  # at a risk of 10 %


@dataclass(frozen=True, slots=True)
class _Asked:
    template: str
    score: float
    right: bool
    cloud_right: bool
    cloud_tokens: int
    apart: bool


def _asked() -> list[_Asked]:
    edge, cloud = recorded()[EDGE], recorded()[CLOUD]
    found = []
    for template, group in {**templates(), **questions()}.items():
        for question, pattern in group.items():
            sure = score(edge[question]["logprobs"])
            texts = ["".join(model[question]["tokens"]) for model in (edge, cloud)]
            right, cloud_right = (pattern.search(text) is not None for text in texts)
            tokens = cloud[question]["prompt"] + len(cloud[question]["tokens"])
            apart = not agree(question, *texts)
            found.append(_Asked(template, sure if sure is not None else -99.0, right, cloud_right, tokens, apart))
    return found


def calibrate() -> None:
    """Keep the scores and verdicts that `language.chat` sets thresholds by."""
    path = Path(confidence.__file__).with_name("confidence.json")
    known = sorted((round(asked.score, 3), int(asked.right)) for asked in _asked())
    path.write_text(json.dumps({EDGE: known}, separators=(",", ":")) + "\n", encoding="utf-8")


def measure(result: Result, quick: bool) -> None:
    """Rows of the score, and for each risk."""
    splits = QUICK if quick else SPLITS
    asked = _asked()
    result.rounds.expect(1 + len(RISKS))
    low, high = result.rounds.ours("auroc", lambda: _interval(asked, splits))
    result.add("score", OURS, len(asked), "", auroc=auroc(_known(asked)), low_95=low, high_95=high)
    surest = sorted(asked, key=lambda each: -each.score)[: round(TAKEN * len(asked))]
    for name, of in (("audit, all", asked), (f"audit, surest {TAKEN:.0%}", surest)):
        wrong, right = ([each.apart for each in of if each.right is which] for which in (False, True))
        result.add(name, OURS, len(of), "%", apart_of_wrong=100 * mean(wrong), apart_of_right=100 * mean(right))
    for risk in RISKS:
        rows = result.rounds.ours(f"risk {risk:g}", lambda risk=risk: _split(asked, risk, splits))  # type: ignore[misc]
        for system, found in rows.items():
            shares = {name: 100 * mean(values) for name, values in found.items()}
            shares["risk_p95"] = 100 * quantile(found["risk"], 0.95)
            result.add(f"risk ≤ {risk:g}", system, splits, "%", **shares)


def _known(asked: Sequence[_Asked]) -> list[tuple[float, bool]]:
    return [(each.score, each.right) for each in asked]


def _interval(asked: Sequence[_Asked], draws: int) -> tuple[float, float]:
    rng, by = random.Random(7), _by_template(asked)
    found = []
    for _ in range(draws):
        drawn = [each for template in rng.choices(list(by), k=len(by)) for each in by[template]]
        found.append(auroc(_known(drawn)))
    return quantile(found, 0.025), quantile(found, 0.975)


def _split(asked: Sequence[_Asked], risk: float, splits: int) -> dict[str, dict[str, list[float]]]:
    rng, by = random.Random(8), _by_template(asked)
    found: dict[str, dict[str, list[float]]] = {OURS: {}, "random": {}}
    for _ in range(splits):
        names = rng.sample(list(by), len(by))
        known = [each for name in names[: len(by) // 2] for each in by[name]]
        tested = [each for name in names[len(by) // 2 :] for each in by[name]]
        lowest = threshold(_known(known), risk)
        taken = [each for each in tested if each.score >= lowest]
        for system, chosen in ((OURS, taken), ("random", rng.sample(tested, len(taken)))):
            for name, value in _outcome(tested, chosen).items():
                found[system].setdefault(name, []).append(value)
    return found


def _outcome(tested: Sequence[_Asked], taken: Sequence[_Asked]) -> dict[str, float]:
    given = {id(each) for each in taken}
    others = [each for each in tested if id(each) not in given]
    right = sum(each.right for each in taken) + sum(each.cloud_right for each in others)
    tokens = sum(each.cloud_tokens for each in others) / sum(each.cloud_tokens for each in tested)
    n = len(tested)
    wrong = sum(not each.right for each in taken)
    return {"taken": len(taken) / n, "risk": wrong / n, "right": right / n, "cloud_tokens": tokens}


def _by_template(asked: Sequence[_Asked]) -> dict[str, list[_Asked]]:
    by: dict[str, list[_Asked]] = {}
    for each in asked:
        by.setdefault(each.template, []).append(each)
    return by
