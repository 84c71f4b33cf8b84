"""How soon a backend that shows signs of life and says nothing is left: `bench handoff pings`. Real HTTP on loopback.

`late`: from the end of the budget (`first_text_within`, and `stall` within an answer) until the next server has the
question. Faults are those of `modelserver.py`; a black hole stands beside, which gives no sign of life at all.
"""

from __future__ import annotations

import asyncio

from thalweg.deploy.bench.language.modelserver import ModelServer
from thalweg.deploy.bench.result import OURS, Result, quantile
from thalweg.models.language.backend import Message, Request
from thalweg.stages.language.pool.pool import Member, Pool, PoolPolicy

BUDGET_S, STALL_S, AT = 0.3, 0.2, 5
MANY, QUICK = 200, 5
FAULTS = ("pings", "roles", "spaces", "black hole", "pings in between")
_ANSWER = "The moon goes round the earth once in about a month, and is a world of dust and rock."


def measure(result: Result, quick: bool) -> None:
    """Rows per fault."""
    count = QUICK if quick else MANY
    result.rounds.expect(len(FAULTS))
    for fault in FAULTS:
        late = result.rounds.ours(f"{fault}, {count} turns", lambda f=fault: asyncio.run(_ask(f, count)))  # type: ignore[misc]
        ms = [1e3 * seconds for seconds in late]
        result.add(fault, OURS, count, "ms", late_p50=quantile(ms, 0.5), late_p95=quantile(ms, 0.95), late_max=max(ms))


async def _ask(fault: str, count: int) -> list[float]:
    late = []
    policy = {"first_text_within": f"{BUDGET_S}s", "stall": f"{STALL_S}s", "probe_every": None, "hedge_after": None}
    async with ModelServer(_ANSWER, fault, at=AT) as bad, ModelServer(_ANSWER) as good:
        for _ in range(count):
            members = {
                "bad": Member.model_validate({"url": bad.url, "model": "m", "quality": 0.9}),
                "good": Member.model_validate({"url": good.url, "model": "m", "quality": 0.1}),
            }
            pool = Pool(members, PoolPolicy.model_validate(policy), {"retries": 0})
            await pool.open()
            async for _delta in pool.reply(Request(messages=[Message("user", "Tell me of the moon")], max_tokens=64)):
                pass
            await pool.close()
            budget_s = STALL_S if fault == "pings in between" else BUDGET_S
            since_s = bad.said_s[-1] if fault == "pings in between" else bad.asked_s[-1]
            late.append(good.asked_s[-1] - since_s - budget_s)
    return late
