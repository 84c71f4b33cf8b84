"""How a pool of language models chooses, as a pipeline file says it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from thalweg.pipeline.duration import Duration


class PoolPolicy(BaseModel):
    """How a pool chooses. `privacy`: the widest zone; `private`: words that keep a conversation at the edge."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    first_clause_within: Annotated[Duration, Field(description="when a first clause must be there")] = 900_000_000
    privacy: Annotated[str, Field(pattern="^(edge|fog|cloud)$")] = "cloud"
    private: Annotated[list[str], Field(description="names that must not leave the edge")] = []
    budget_per_hour: Annotated[
        float | None, Field(ge=0, allow_inf_nan=False, description="of costs; left out: no limit")
    ] = None
    prefer: Annotated[str, Field(pattern="^(quality|cost|latency)$")] = "quality"
    connect_within: Annotated[Duration, Field(description="longest wait for a connection")] = 2_000_000_000
    first_text_within: Annotated[Duration, Field(description="longest wait for a backend's first word")] = 4_000_000_000
    stall: Annotated[Duration, Field(description="silence in mid-answer that counts as one")] = 1_500_000_000
    hedge_after: Annotated[
        Duration | Literal["auto"] | None,
        Field(
            description="ask a second beside a first that is slow; auto: behind the first one's 95 % of turns, as long "
            "as the second can be in time"
        ),
    ] = None
    hedge_share: Annotated[
        float, Field(ge=0, le=1, description="of hedge_after auto: tokens of hedges, share of all others")
    ] = 0.1
    cascade: Annotated[
        float | None,
        Field(
            gt=0,
            lt=1,
            description="a cheaper one answers where it is sure: share of turns that may be answered wrongly so; for "
            "smollm2-135m-instruct, of which it is known how sure it is when it is right",
        ),
    ] = None
    audit: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="with `cascade`: share of answers that a cheaper one gave alone of which a dearer one is asked "
            "afterwards, in idle time, whether it agrees, which is counted",
        ),
    ] = 0.05
    by_question: Annotated[
        bool,
        Field(
            description="what a backend's `quality` is, is expected anew for each question, for models of which that "
            "was learned: smollm2-135m-instruct. Wants all-minilm-l6-v2 of the store"
        ),
    ] = False
    drafts: Annotated[
        Literal["free", "any"], Field(description="whether answers are drafted by backends that cost something")
    ] = "free"
    probe_every: Annotated[
        Duration | None, Field(description="how often one that is out or slow is tried between turns; null: never")
    ] = 30_000_000_000
