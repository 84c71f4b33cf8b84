"""What servers send that is not quite OpenAI's protocol, byte by byte and in one piece: the same deltas."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.models.language.backend import (
    BackendError,
    Delta,
    ErrorKind,
    Finish,
    Progress,
    Reason,
    Text,
    Thinking,
    Usage,
)
from thalweg.models.language.stream import StreamParser

DONE = b"data: [DONE]\n\n"


def line(content: Any = None, finish: Any = None, **delta: Any) -> bytes:
    if content is not None:
        delta["content"] = content
    return event({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


def event(chunk: Any) -> bytes:
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def read(data: bytes, size: int = 10**9) -> tuple[list[Delta], BackendError | None]:
    parser, told = StreamParser(), []
    try:
        for at in range(0, len(data), size):
            for delta in parser.feed(data[at : at + size]):
                told.append(delta)  # also what came before an error
        for delta in () if parser.done else parser.end():
            told.append(delta)
    except BackendError as error:
        return told, error
    return told, None


def text(data: bytes) -> str:
    """The text of a reply that is whole, however it is cut."""
    told, error = read(data)
    assert error is None
    assert isinstance(told[-1], Finish)
    assert [delta for delta in told if isinstance(delta, Finish)] == told[-1:]
    assert read(data, 1)[0] == read(data, 7)[0] == told
    return "".join(delta.text for delta in told if isinstance(delta, Text))


def problem(data: bytes) -> BackendError:
    told, error = read(data)
    assert error is not None
    again, same = read(data, 1)
    assert (told, str(error)) == (again, str(same))
    return error


def problem_without_end(start: bytes, more: bytes) -> BackendError:
    """Of a stream that goes on and on; a megabyte is kept of it at most."""
    parser = StreamParser()
    list(parser.feed(start))
    for _ in range(200):
        assert len(parser._buffer) + parser._pending_bytes < 1_100_000
        try:
            list(parser.feed(more))
        except BackendError as error:
            return error
    raise AssertionError("it is read for ever")


WHOLE = {
    "as it should be": line("Pa") + line("ris.") + line(finish="stop") + DONE,
    "[DONE] without a reason": line("Pa") + line("ris.") + DONE,
    "a reason without [DONE]": line("Pa") + line("ris.", finish="stop"),
    "[DONE] without a line end": line("Paris.") + b"data: [DONE]",
    "an empty reason in each": line("Pa", finish="") + line("ris.", finish="") + line("", finish="stop") + DONE,
    "a reason that is an object": line("Paris.", finish={"type": "stop", "matched": 2}) + DONE,
    "null in place of a delta": line("Pa") + event({"choices": [{"index": 0, "delta": None}]}) + line("ris.") + DONE,
    "null in place of choices": event({"choices": None}) + line("Paris.") + DONE,
    "no choices": event({"id": "x"}) + event({"choices": []}) + line("Paris.") + DONE,
    "null in place of a choice": event({"choices": [None]}) + line("Paris.") + DONE,
    "null in place of a chunk": event(None) + line("Paris.") + b"data: null\n\n" + DONE,
    "null in place of content": line("Pa") + event({"choices": [{"delta": {"content": None}}]}) + line("ris.") + DONE,
    "the role in each": line("Pa", role="assistant") + line("ris.", role="assistant") + DONE,
    "a list of parts": line([{"type": "text", "text": "Pa"}]) + line([{"type": "text", "text": "ris."}]) + DONE,
    "a list of texts": line(["Pa", "ris", None, "."]) + DONE,
    "a text with a value": line([{"type": "text", "text": {"value": "Paris.", "annotations": []}}]) + DONE,
    "another choice beside": line("Paris.") + event({"choices": [{"index": 1, "delta": {"content": "Rome"}}]}) + DONE,
    "completions": event({"choices": [{"text": "Pa"}]}) + event({"choices": [{"text": "ris.", "finish_reason": "x"}]}),
    "a refusal": line(None, refusal="Paris.") + DONE,
    "null errors": event({"error": None, "choices": [{"delta": {"content": "Paris."}}]}) + DONE,
    "comments, CRLF": b": ping\r\n\r\n" + line("Paris.").replace(b"\n", b"\r\n") + DONE,
    "no blank behind the colon": (line("Paris.") + DONE).replace(b"data: ", b"data:"),
    "CR alone": (line("Paris.") + DONE).replace(b"\n", b"\r"),
    "one line end between events": line("Pa").rstrip() + b"\n" + line("ris.").rstrip() + b"\n" + DONE,
    "an event over two lines": b'data: {"choices": [{"delta":\ndata: {"content": "Paris."}}]}\n\n' + DONE,
    "a byte order mark": b"\xef\xbb\xbf" + line("Paris.") + DONE,
    "lines before": b"\n\n\r\n" + line("Paris.") + DONE,
    "names and numbers": b"event: completion\nid: 1\nretry: 5\n" + line("Paris.") + DONE,
    "JSON per line": line("Pa")[6:-1] + line("ris.", finish="stop")[6:-1],
    "one object": json.dumps({"choices": [{"message": {"content": "Paris."}, "finish_reason": "stop"}]}).encode(),
    "one object, printed": json.dumps({"choices": [{"message": {"content": "Paris."}}]}, indent=2).encode(),
    "a list of chunks": json.dumps([{"choices": [{"delta": {"content": t}}]} for t in ("Pa", "ris.")]).encode(),
    "figures that cannot be": line("Paris.") + event({"choices": [], "usage": {"prompt_tokens": -1}}) + DONE,
    "more behind [DONE]": line("Paris.") + DONE + line(" And more.") + b"\xff\xfe",
}  # fmt: skip


@pytest.mark.parametrize("kind", WHOLE)
def test_a_whole_answer_is_whole_whatever_it_is_wrapped_in(kind: str) -> None:
    assert text(WHOLE[kind]) == "Paris."


def test_characters_cut_by_the_transport_come_whole() -> None:
    written = json.dumps({"choices": [{"delta": {"content": "Grüße 東京 😀"}}]}, ensure_ascii=False).encode()
    assert text(b"data: " + written + b"\n\n" + DONE) == "Grüße 東京 😀"


def test_bytes_that_are_no_text_become_signs_for_what_was_lost() -> None:
    assert text(b'data: {"choices": [{"delta": {"content": "a\xffb"}}]}\n\n' + DONE) == "a\ufffdb"


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking", "reasoning_text", "thought"])
def test_thoughts_beside_the_text_are_thoughts(key: str) -> None:
    told, _ = read(line(None, **{key: "hm"}) + line("Paris.") + DONE)
    assert told == [Thinking("hm"), Text("Paris."), Finish()]


def test_thoughts_under_two_names_are_told_once() -> None:
    assert read(line(None, reasoning="hm", reasoning_content="hm") + line("a") + DONE)[0][0] == Thinking("hm")


@pytest.mark.parametrize(
    "part",
    [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "reasoning", "text": "hm"},
        {"type": "reasoning.summary", "summary": "hm"},
        {"type": "text", "text": "hm", "thought": True},
    ],
)
def test_parts_that_are_thoughts_are_thoughts(part: dict[str, Any]) -> None:
    told, _ = read(line([part, {"type": "text", "text": "Paris."}]) + DONE)
    assert told == [Thinking("hm"), Text("Paris."), Finish()]


@pytest.mark.parametrize(
    ("reason", "meant"),
    [
        ("length", Reason.LENGTH),
        ("MAX_TOKENS", Reason.LENGTH),
        ("content_filter", Reason.FILTER),
        ("SAFETY", Reason.FILTER),
        ("tool_calls", Reason.TOOL),
        ("stop", Reason.STOP),
        ("eos", Reason.STOP),
        ("never heard of", Reason.STOP),
        (7, Reason.STOP),
    ],
)
def test_the_reason_of_the_end_is_read(reason: Any, meant: Reason) -> None:
    assert read(line("a", finish=reason) + DONE)[0][-1] == Finish(meant)


@pytest.mark.parametrize("reason", ["error", "abort", "cancelled", "insufficient_system_resource", {"type": "abort"}])
def test_a_reason_that_means_a_failure_is_one(reason: Any) -> None:
    assert problem(line("a") + line(finish=reason) + DONE).kind is ErrorKind.BROKE_OFF


def test_a_sign_of_life_is_progress() -> None:
    told, _ = read(b": ping\n\n" + line("", role="assistant") + line(finish="") + line("a", finish="stop"))
    assert [d.kind for d in told if isinstance(d, Progress)] == ["ping", "role", "empty"]


def test_figures_are_read_where_they_can_be() -> None:
    usage = {"prompt_tokens": 30, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 26}}
    timings = {"prompt_ms": 12.5, "predicted_ms": -1, "prompt_n": True}
    told, _ = read(line("a", finish="stop") + event({"choices": [], "usage": usage, "timings": timings}) + DONE)
    assert told[1] == Usage(prompt_tokens=30, cached_tokens=26, reply_tokens=5, prompt_ms=12.5)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-3", "true", '"5"', "[5]", "1e400", "{}"])
def test_figures_that_cannot_be_are_left_out(value: str) -> None:
    chunk = f'data: {{"choices": [], "usage": {{"prompt_tokens": {value}, "completion_tokens": 2}}}}\n\n'.encode()
    assert Usage(reply_tokens=2) in read(line("a") + chunk + DONE)[0]


def test_how_sure_the_model_is_comes_with_the_text() -> None:
    tokens = [{"logprob": -0.5, "top_logprobs": [{"logprob": -0.5}, {"logprob": -2.0}]}]
    chunk = event({"choices": [{"delta": {"content": "a"}, "logprobs": {"content": tokens}}]})
    assert read(chunk + DONE)[0][0] == Text("a", (-0.5,), (1.5,))


@pytest.mark.parametrize("content", [None, [], [None], [{"logprob": "x"}], [{"logprob": 3}], "x", [{}], {"a": 1}])
def test_probabilities_that_cannot_be_are_left_out(content: Any) -> None:
    chunk = event({"choices": [{"delta": {"content": "a"}, "logprobs": {"content": content}}]})
    assert read(chunk + DONE)[0][0] == Text("a")


@pytest.mark.parametrize(
    ("data", "kind", "said"),
    [
        (b"", ErrorKind.BROKE_OFF, "broke off before it answered"),
        (line("a"), ErrorKind.BROKE_OFF, "broke off in the middle of its answer"),
        (line("a", finish=""), ErrorKind.BROKE_OFF, "broke off in the middle of its answer"),
        (line("a") + b'data: {"choices": [{"del', ErrorKind.BROKE_OFF, "broke off in the middle"),
        (line("a") + b"Internal error\n", ErrorKind.BROKE_OFF, "Internal error"),
        (line("a") + event({"error": "CUDA out of memory"}), ErrorKind.BROKE_OFF, "CUDA out of memory"),
        (line("a") + event({"error": {"message": "late", "code": 429}}), ErrorKind.BUSY, "late"),
        (line("a") + event({"error": {"message": "late", "code": "503"}}), ErrorKind.BUSY, "late"),
        (event({"error": {"message": "maximum context length is 8"}}), ErrorKind.TOO_LONG, "context length"),
        (line("a") + b'error: {"code":500,"message":"gone"}\n\n', ErrorKind.BROKE_OFF, "gone"),
        (line("a") + b"error: gone\n\n", ErrorKind.BROKE_OFF, "gone"),
        (line("a") + b'event: error\ndata: {"message": "gone"}\n\n', ErrorKind.BROKE_OFF, "gone"),
        (line("a") + b"event: error\ndata: gone\n\n", ErrorKind.BROKE_OFF, "gone"),
        (event({"choices": [{"error": {"message": "gone"}, "finish_reason": "error"}]}), ErrorKind.BROKE_OFF, "gone"),
        (event({"object": "error", "message": "gone"}), ErrorKind.BROKE_OFF, "gone"),
        (b'{"detail": [{"loc": ["body"], "msg": "gone"}]}', ErrorKind.BROKE_OFF, "gone"),
        (b"data: {this is not json\n\n", ErrorKind.NO_ANSWER, "is not an answer: {this is not json"),
        (b"data: Bad Gateway\n\n", ErrorKind.NO_ANSWER, "Bad Gateway"),
        (b'data: "text"\n\n', ErrorKind.NO_ANSWER, "text"),
        (b"Bad Gateway", ErrorKind.NO_ANSWER, "not an answer: Bad Gateway"),
        (b"{not json", ErrorKind.NO_ANSWER, "not an answer: {not json"),
        (b"data: " + b"[" * 50_000 + b"\n\n", ErrorKind.NO_ANSWER, "not an answer: [[["),
        (b"data: " + b"9" * 50_000 + b"\n\n", ErrorKind.NO_ANSWER, "not an answer: 999"),
        (
            b"<html><style>p{}</style>Please <b>sign</b> in &amp; go",
            ErrorKind.NO_ANSWER,
            "web page in place of an answer",
        ),
        (b"<html><style>p{}</style>Please <b>sign</b> in &amp; go", ErrorKind.NO_ANSWER, ": Please sign in & go"),
    ],
)
def test_what_is_no_answer_is_told_in_the_servers_words(data: bytes, kind: ErrorKind, said: str) -> None:
    error = problem(data)
    assert error.kind is kind
    assert said in str(error)
    assert len(str(error)) < 300


def test_what_was_said_before_an_error_is_told() -> None:
    assert read(line("Paris") + event({"error": "gone"}))[0] == [Text("Paris")]


@pytest.mark.parametrize("start", [b"data: ", b"", b": ", b"data: {", b"{", b"<html>"])
def test_a_line_without_an_end_is_given_up(start: bytes) -> None:
    assert problem_without_end(start, b"x" * 10_000).kind is ErrorKind.NO_ANSWER


def test_an_event_of_many_lines_is_given_up() -> None:
    error = problem_without_end(b"", (b"data: {" + b"x" * 1000 + b"\n") * 10)
    assert "more than 1000 kB" in str(error)


def test_words_of_a_server_cannot_move_the_terminal() -> None:
    assert "\x1b" not in str(problem(event({"error": "\x1b]0;x\x07 gone \x9b2J"})))


@settings(max_examples=200)
@given(
    st.binary(max_size=300)
    | st.lists(st.sampled_from([*WHOLE.values(), b"\r", b"\n", b"data:", b"{", b"error:"])).map(b"".join)
)
def test_any_bytes_are_an_answer_or_a_clear_error_however_they_are_cut(data: bytes) -> None:
    assert str(read(data)) == str(read(data, 1)) == str(read(data, 5))
