"""One JSON object of a reply, as servers that call themselves OpenAI-compatible really send it, as deltas.

where                      what is taken for it
choices                    null, absent, or a list; the first choice that is seen is the reply, others are ignored
delta, message             an object, null or absent; a `message` is the whole reply of a server that does not stream
content, text, refusal     text; null; a list of texts and parts; a part; a number
reasoning_content, …       thoughts beside the text (`_BESIDE`), in any of these forms
finish_reason              a word; "" and null and false are none
error                      an object or text, here or in the choice; null and empty are none
usage, timings             numbers that can be: finite and not negative
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from thalweg.models.http.errors import quoted
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

Json = Any  # what a stranger sent: anything that JSON can say

_BESIDE = ("reasoning_content", "reasoning", "reasoning_text", "reasoning_details", "thinking", "thought")
_REASONS = {
    "length": Reason.LENGTH,
    "max_tokens": Reason.LENGTH,
    "max_output_tokens": Reason.LENGTH,
    "model_length": Reason.LENGTH,
    "content_filter": Reason.FILTER,
    "safety": Reason.FILTER,
    "prohibited_content": Reason.FILTER,
    "blocklist": Reason.FILTER,
    "recitation": Reason.FILTER,
    "sensitive": Reason.FILTER,
    "refusal": Reason.FILTER,
    "tool_calls": Reason.TOOL,
    "tool_use": Reason.TOOL,
    "function_call": Reason.TOOL,
}
_BROKEN = frozenset(
    [
        "error",
        "abort",
        "aborted",
        "cancel",
        "cancelled",
        "canceled",
        "failed",
        "network_error",
        "server_error",
        "internal_error",
        "timeout",
        "insufficient_system_resource",
        "interrupted",
    ]
)
_MOST = 1e12


def deltas(chunk: Json) -> list[Delta]:
    """What a chunk says, in order. Raises BackendError where it says that something went wrong."""
    if isinstance(chunk, list):
        return [delta for one in chunk if isinstance(one, dict) for delta in deltas(one)]
    if not isinstance(chunk, dict):
        return [Progress("empty")]
    error_in(chunk)
    choice = _first(chunk.get("choices"))
    found = list(_of_choice(choice)) if choice is not None else []
    usage = _usage(chunk)
    if usage is not None:
        found.append(usage)
    if choice is None and usage is None and "choices" not in chunk:
        error_without_name(chunk)
    return found or [Progress("empty")]


def error_in(chunk: Mapping[str, Json], *, named: bool = False) -> None:
    """Raise what a chunk says of an error. `named`: the event was called one, so all of it is."""
    error = chunk.get("error") or chunk.get("errors")
    if error or named:
        raise told(error or chunk)


def error_without_name(chunk: Mapping[str, Json]) -> None:
    """An object that is no chunk but complains: `{"detail": …}`, `{"object": "error", "message": …}`."""
    if chunk.get("detail") or (chunk.get("message") and not isinstance(chunk["message"], dict)):
        raise told(chunk)


def told(error: Json, status: int | None = None) -> BackendError:
    """The words and the number of a server's error."""
    code = error.get("code", error.get("status")) if isinstance(error, dict) else None
    status = status if status is not None else _status(code)
    words = quoted(words_of(error))
    return BackendError(kind_of(status, words), f"reports an error: {words}", status=status)


def kind_of(status: int | None, words: str) -> ErrorKind:
    """What helps against an answer with `status`, or an error in a stream, that says `words`."""
    said = words.lower()
    if any(
        sign in said for sign in ("context size", "context length", "context window", "context_length", "too many to")
    ):
        return ErrorKind.TOO_LONG
    if status in (401, 402, 403, 404, 405, 407):
        return ErrorKind.SETTINGS
    if status in (408, 409, 425, 429, 503, 529) or any(sign in said for sign in ("rate limit", "overloaded")):
        return ErrorKind.BUSY
    if status is not None and 400 <= status < 500:
        return ErrorKind.REFUSED
    return ErrorKind.BROKE_OFF


def words_of(error: Json) -> str:
    """What an error says, without what surrounds it."""
    for _ in range(8):
        if isinstance(error, list) and error:
            error = error[0]
        elif isinstance(error, dict):
            inner = next((error[key] for key in ("message", "msg", "detail", "error", "title") if error.get(key)), None)
            if inner is None:
                break
            error = inner
        else:
            break
    try:
        return error if isinstance(error, str) else json.dumps(error)[:1000]
    except (ValueError, RecursionError):
        return "something that cannot be shown"


def _first(choices: Json) -> dict[str, Json] | None:
    """The choice that is the reply: the one that is numbered 0, or not at all."""
    if isinstance(choices, dict):
        choices = [choices]
    if not isinstance(choices, list):
        return None
    return next((c for c in choices if isinstance(c, dict) and c.get("index") in (None, 0, "0", "")), None)


def _of_choice(choice: dict[str, Json]) -> Iterator[Delta]:
    error_in(choice)
    inner = choice.get("delta")
    if not isinstance(inner, dict):
        inner = choice.get("message") if isinstance(choice.get("message"), dict) else {"content": choice.get("text")}
    assert isinstance(inner, dict)
    before = 0
    for key in _BESIDE:
        beside = inner.get(key)
        thought = "" if isinstance(beside, bool) else "".join(text for _, text in _texts(beside))
        if thought:
            yield Thinking(thought)
            before += 1
            break  # the same thoughts stand under a second name, too
    logprobs, margins = _sure(choice.get("logprobs"))
    for key in ("content", "refusal"):
        for is_thought, text in _texts(inner.get(key)):
            if text:
                yield Thinking(text) if is_thought else Text(text, logprobs, margins)
                logprobs, margins, before = (), (), before + 1
    reason = _reason(choice.get("finish_reason"))
    if reason is not None:
        yield Finish(reason)
    elif not before:
        yield Progress("role" if inner.get("role") else "empty")


def _texts(content: Json, thought: bool = False, depth: int = 0) -> Iterator[tuple[bool, str]]:
    """The texts of a content and whether each is a thought."""
    if isinstance(content, str):
        yield thought, content
    elif isinstance(content, bool | int | float):
        yield thought, json.dumps(content)
    elif depth > 4:
        return
    elif isinstance(content, list):
        for part in content:
            yield from _texts(part, thought, depth + 1)
    elif isinstance(content, dict):
        kind = str(content.get("type", "")).lower()
        thought = thought or content.get("thought") is True or any(sign in kind for sign in ("think", "reason"))
        for key in ("text", "value", "content", "thinking", "reasoning", "summary", "refusal"):
            if content.get(key) is not None and not isinstance(content[key], bool):
                yield from _texts(content[key], thought or key in ("thinking", "reasoning", "summary"), depth + 1)
                return


def _reason(given: Json) -> Reason | None:
    """Raises BackendError where it says that the reply is not whole."""
    if isinstance(given, dict):
        given = given.get("type") or given.get("reason")
    if given is None or given is False or given == "" or given == "null":
        return None
    word = str(given).strip().lower()
    if word in _BROKEN:
        raise BackendError(ErrorKind.BROKE_OFF, f"broke off in the middle of its answer: it says {quoted(word, 40)!r}")
    return _REASONS.get(word, Reason.STOP)


def _sure(given: Json) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Log-probabilities of a choice's tokens, and their margins where two are told of each."""
    tokens = given.get("content") if isinstance(given, dict) else None
    logprobs: list[float] = []
    margins: list[float] = []
    for token in tokens if isinstance(tokens, list) else ():
        own = _logprob(token)
        if own is None:
            return (), ()
        logprobs.append(own)
        others = token.get("top_logprobs")
        best = sorted(v for o in others if (v := _logprob(o)) is not None) if isinstance(others, list) else []
        if len(best) > 1:
            margins.append(best[-1] - best[-2])
    return tuple(logprobs), tuple(margins) if len(margins) == len(logprobs) else ()


def _logprob(token: Json) -> float | None:
    value = token.get("logprob") if isinstance(token, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e4 < value <= 0:
        return None
    return float(value)


def _usage(chunk: Mapping[str, Json]) -> Usage | None:
    usage, timings = (found if isinstance(found := chunk.get(key), dict) else {} for key in ("usage", "timings"))
    details = usage.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else None
    cached = _count(timings.get("cache_n")) if cached is None else cached
    prompt = _count(usage.get("prompt_tokens"))
    if prompt is None and (read := _count(timings.get("prompt_n"))) is not None:
        prompt = read + (cached or 0)
    reply = _count(usage.get("completion_tokens"))
    found = Usage(
        prompt_tokens=prompt,
        cached_tokens=cached,
        reply_tokens=_count(timings.get("predicted_n")) if reply is None else reply,
        prompt_ms=_number(timings.get("prompt_ms")),
        reply_ms=_number(timings.get("predicted_ms")),
    )
    return None if found == Usage() else found


def _number(given: Json) -> float | None:
    if isinstance(given, bool) or not isinstance(given, int | float):
        return None
    return float(given) if 0 <= given <= _MOST else None


def _count(given: Json) -> int | None:
    number = _number(given)
    return None if number is None else int(number)


def _status(code: Json) -> int | None:
    text = str(code)
    return int(text) if len(text) == 3 and text[0] in "45" and text.isascii() and text.isdigit() else None
