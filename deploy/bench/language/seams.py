"""What a small model makes of an answer that a large one broke off: `bench handoff seams`. The small one is live.

A server says recorded answers of the large model (*replayed*) and resets the connection after so many tokens; the
store's smallest model goes on, in this process. `finished`: answers that came to an end. `doubled`: answers in which
the last word before the seam, or the last two, come again right behind it. `numbers`: answers that go on with a number,
as small models do behind a space. Whether the sense holds no pattern can tell: the notes have three of each.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

from thalweg.deploy.bench.language.deaths import on_one_line
from thalweg.deploy.bench.language.modelserver import Json, ModelServer, Plan
from thalweg.deploy.bench.language.recording import CLOUD, EDGE, LONGER, PROMPTS, recorded
from thalweg.deploy.bench.result import OURS, Result
from thalweg.models.language.backend import Message, Request, Text
from thalweg.pipeline.handoff.seam import words
from thalweg.stages.language.pool.pool import Member, Pool, PoolPolicy

AT = (5, 20)
MANY, QUICK = 10, 3
LIMIT_S = 900.0


@dataclass(frozen=True, slots=True)
class _Joined:
    before: str
    behind: str
    finished: bool


def measure(result: Result, quick: bool) -> None:
    """Rows per place of death."""
    prompts = PROMPTS[: QUICK if quick else MANY]
    result.rounds.expect(len(AT))
    for at in AT:
        joined = result.rounds.ours(f"at {at}", lambda at=at: asyncio.run(_ask(prompts, at)), LIMIT_S)  # type: ignore[misc]
        n = len(joined)
        found = {
            "finished": sum(each.finished for each in joined),
            "doubled": sum(_doubled(each) for each in joined),
            "numbers": sum(re.match(r"\s*\d", each.behind) is not None for each in joined),
        }
        result.add(f"dies at {at}", OURS, n, "%", **{name: 100 * count / n for name, count in found.items()})
        result.notes += [f"{each.before[-40:]!r} + {each.behind[:60]!r}" for each in joined[:3]]


def _doubled(joined: _Joined) -> bool:
    before, behind = words(joined.before), words(joined.behind)
    return any(n and before[-n:] == behind[:n] for n in (1, 2))


async def _ask(prompts: tuple[str, ...], at: int) -> list[_Joined]:
    answers = recorded()[CLOUD]

    def plan(asked: Json) -> Plan:
        return Plan(on_one_line(answers[asked["messages"][-1]["content"]]["tokens"]), "dies", at)

    found = []
    policy = PoolPolicy.model_validate({"first_text_within": "60s", "stall": "60s", "probe_every": None})
    async with ModelServer(plan=plan) as cloud:
        for prompt in prompts:
            members = {
                "cloud": Member.model_validate({"url": cloud.url, "model": "m", "quality": 0.9}),
                "pocket": Member.model_validate({"backend": "llamacpp", "model": EDGE, "where": "edge"}),
            }
            pool = Pool(members, policy, {"threads": 1, "retries": 0})
            await pool.open()
            messages = [Message("system", LONGER), Message("user", prompt)]
            said = ""
            async for delta in pool.reply(Request(messages=messages, max_tokens=60)):
                said += delta.text if isinstance(delta, Text) else ""
            await pool.close()
            whole = "".join(on_one_line(answers[prompt]["tokens"])[:at]).lstrip()
            before = whole if whole[-1:].isspace() else whole.rpartition(" ")[0] + " "
            found.append(_Joined(before, said.removeprefix(before), pool.counts["switches"] == 1))
    return found
