"""Pools that are described wrongly, and figures of servers that cannot be."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from tests.stages.language.pool.test_pool import ANSWER, Scripted, ask, pool
from tests.stages.language.test_drafts import final
from thalweg.deploy.testing import run_stage
from thalweg.models.language.backend import Delta, ErrorKind, Finish, Message, Request, Text, Usage
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.file.source import read_source
from thalweg.pipeline.payload import Token
from thalweg.pipeline.stage import describe
from thalweg.stages.language.chat import Chat
from thalweg.stages.language.pool.member import tokens_of


def refused(policy: dict[str, Any] | None = None, **backends: dict[str, Any]) -> str:
    with pytest.raises((ThalwegError, ValueError)) as caught:
        Chat(**describe(Chat).check({"backends": backends, "policy": policy or {}}))
    return str(caught.value)


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        ({"backend": "echo", "cost": -1}, "cost"),
        ({"backend": "echo", "cost": math.nan}, "cost"),
        ({"backend": "echo", "cost": math.inf}, "cost"),
        ({"backend": "echo", "quality": 1.5}, "quality"),
        ({"backend": "echo", "quality": math.nan}, "quality"),
        ({"backend": "echo", "where": "moon"}, "where"),
        ({"url": "http://127.0.0.1:1/v1", "model": "m", "continues": "sometimes"}, "continues"),
        ({"url": "http://127.0.0.1:1/v1"}, "model"),
        ({"url": "127.0.0.1", "model": "m"}, "a: "),
        ({"backend": "ehco"}, "did you mean 'echo'"),
        ({"backend": "echo", "whree": "edge"}, "whree"),
    ],
)
def test_a_backend_that_cannot_be_is_refused_by_what_is_wrong_with_it(backend: dict[str, Any], message: str) -> None:
    assert message in refused(a=backend)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"budget_per_hour": -1}, "budget_per_hour"),
        ({"budget_per_hour": math.nan}, "budget_per_hour"),
        ({"hedge_share": 2}, "hedge_share"),
        ({"hedge_after": "soon"}, "hedge_after"),
        ({"prefer": "luck"}, "prefer"),
        ({"privacy": "none"}, "privacy"),
        ({"first_text_within": "-1s"}, "first_text_within"),
        ({"firstclause": "1s"}, "firstclause"),
    ],
)
def test_a_policy_that_cannot_be_is_refused_by_what_is_wrong_with_it(policy: dict[str, Any], message: str) -> None:
    assert message in refused(policy, a={"backend": "echo"})


def test_two_of_one_name_are_refused_by_where_they_stand() -> None:
    lines = ["stages:", "  chat:", "    use: language.chat", "    backends:", *["      a: {backend: echo}"] * 2]
    with pytest.raises(ThalwegError, match="'a' stands here twice"):
        read_source("\n".join(lines), "chat.yaml")


class Counting(Scripted):
    """Says figures of its own."""

    def __init__(self, usage: Usage) -> None:
        super().__init__()
        self._usage = usage

    async def reply(self, request: Request) -> AsyncGenerator[Delta, None]:
        yield self._usage
        async for delta in super().reply(request):
            yield delta


@pytest.mark.parametrize(
    "usage",
    [
        Usage(),
        Usage(prompt_tokens=-5, reply_tokens=-1),
        Usage(prompt_tokens=math.nan, cached_tokens=math.nan, reply_tokens=math.nan),  # type: ignore[arg-type]
        Usage(prompt_tokens=10, cached_tokens=10**12),
        Usage(prompt_tokens=10**15, reply_tokens=0),
    ],
)
def test_figures_that_cannot_be_teach_nothing_and_break_nothing(usage: Usage) -> None:
    tested = pool(edge=Scripted(), cloud=Counting(usage))
    assert ask(tested, "one", "two", "three", "four") == [ANSWER] * 4
    latency = tested._members["cloud"].latency
    assert all(math.isfinite(n) for n in (latency.first_ms, latency.token_ms, latency.first_ms_at(0.95, 100)))
    assert latency.token_ms >= 0


def test_what_a_server_says_it_has_cached_is_not_expected_to_be_read_again() -> None:
    tested = pool(edge=Scripted(), cloud=Counting(Usage(prompt_tokens=1000, cached_tokens=900)))
    ask(tested, *["what is it"] * 5)
    assert 0.8 < tested._members["cloud"].latency.kept < 0.9
    assert tested._members["edge"].latency.kept == 0


def test_what_was_asked_before_is_expected_to_be_kept_in_that_conversation_alone() -> None:
    one, other = (pool(cloud=Counting(Usage(prompt_tokens=1000, cached_tokens=1000))) for _ in range(2))
    long = "what is it " * 100
    ask(one, *[long] * 5)
    member, elsewhere = one._members["cloud"], other._members["cloud"]
    elsewhere.known = member.known
    asked = [Message("user", long)]
    assert member.new_of(asked) < 0.1 * tokens_of(asked)
    assert elsewhere.new_of(asked) == tokens_of(asked)
    assert member.new_of([Message("user", "Forget it. " + long)]) > tokens_of(asked), "it begins otherwise"


@pytest.mark.parametrize("within", ["0ms", "1ms"])
def test_a_deadline_that_cannot_be_met_is_answered_as_soon_as_can_be(within: str) -> None:
    tested = pool({"first_clause_within": within, "hedge_after": "auto"}, edge=Scripted(), cloud=Scripted(first_s=0.3))
    assert ask(tested, *["what is it"] * 8) == [ANSWER] * 8
    assert tested.counts["answered_edge"] > 0
    assert "none is sure to be in time" in tested.routes[-1].reason


def test_a_name_of_a_person_is_private_however_it_is_written() -> None:
    for text in ("mrs. VANDERBILT", "Vanderbilt's house", "(vanderbilt)", "Vander\u00adbilt", "Ｖａｎｄｅｒｂｉｌｔ"):
        tested = pool({"private": ["Vanderbilt"]}, edge=Scripted(), cloud=Scripted())
        ask(tested, text)
        assert tested.counts["asked_cloud"] == 0, text


@pytest.mark.parametrize("policy", [{"private": ["Xyzzy"]}, {"budget_per_hour": 0}, {"privacy": "fog"}])
def test_where_all_are_filtered_away_the_person_hears_one_sentence_and_the_operator_reads_why(
    policy: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    out = {"private": "words may not leave the edge", "budget_per_hour": "it costs 1, and 0 are left"}
    fog, cloud = Scripted(dies_after=0, error=ErrorKind.SETTINGS), Scripted()
    tested = pool(policy, fog=fog, cloud=cloud)
    tested._members["fog"].misconfigured("status 401")
    outcome = run_stage(Chat(backend=tested), [final(0, "Where is Xyzzy?")])
    tokens = [e.payload.text for e in outcome.emitted if isinstance(e.payload, Token)]
    assert tokens == ["I cannot answer that at the moment.", ""] and outcome.problems == []
    (error,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    why = next((reason for name, reason in out.items() if name in policy), "words may not leave the fog")
    assert f"cloud: {why}" in error and "Xyzzy" not in error
    assert not fog.heard and not cloud.heard


def test_a_token_of_ten_megabytes_is_cut_and_ends_the_answer() -> None:
    class Huge(Scripted):
        async def reply(self, request: Request) -> AsyncGenerator[Delta, None]:
            yield Text("x" * 10_000_000)
            yield Text(" and more")
            yield Finish()

    outcome = run_stage(Chat(backend=pool(edge=Scripted(), cloud=Huge()), max_tokens=16), [final(0, "what?")])
    said = "".join(e.payload.text for e in outcome.emitted if isinstance(e.payload, Token))
    assert len(said) < 1000
