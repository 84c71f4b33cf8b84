"""Replies as language-model servers give them, whole and broken in every way: what `tests.fuzz.language` sends."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from typing import Any

MAX_TOKENS = 64
CANARY = "xqz"
_SENTENCES = (
    "The capital of France is Paris. It is big! Is that all? 東京 Grüße 😀 🇫🇷 a < b 3 <4 [sic] Tom & … <b>x</b>"
)
_WORDS = _SENTENCES.split()
_TAGS = ("think", "thinking", "THINK", "thought", "reasoning", "reflection", "scratchpad", "seed:think")
_MARKS = (
    *((f"<{tag}>", f"</{tag}>") for tag in _TAGS),
    ('<think mood="deep">', "</think >"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<unused94>thought\n", "<unused95>"),
    ('<details type="reasoning" done="false">', "</details>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("<think>\n<think>", "</think>"),
)


@dataclass
class Case:
    """`pieces`: (is it thought?, text) as meant; `data`: what is sent, None: silence; `whole`: nothing was broken."""

    pieces: list[tuple[bool, str]]
    data: list[bytes | None] = field(default_factory=list)
    whole: bool = True
    status: int = 200
    fault: str = "none"

    @property
    def meant(self) -> str:
        return "".join(text for thought, text in self.pieces if not thought)


def generate(r: random.Random) -> Case:
    """One case."""
    case = Case(_pieces(r))
    deltas = _deltas(r, case.pieces)
    if not case.meant.strip():
        case.whole = False
    chunks = [_chunk(r, delta) for delta in deltas]
    if r.random() < 0.15:
        chunks = _junk(r, chunks)
    ends = _ends(r)
    lines = [_line(r, chunk) for chunk in chunks] + ends
    fault = r.choices(_FAULTS, weights=_WEIGHTS)[0]
    case.fault = fault.__name__.removeprefix("_")
    lines = fault(r, case, lines)
    case.data = _cut(r, lines)
    return case


def _pieces(r: random.Random) -> list[tuple[bool, str]]:
    def words(thought: bool) -> str:
        chosen = [r.choice(_WORDS) for _ in range(r.randint(1, 6))]
        return " ".join(f"{CANARY}{w}{CANARY}" for w in chosen) if thought else " ".join(chosen) + " "

    pieces = [(True, words(True))] if r.random() < 0.5 else []
    for _ in range(r.choice((1, 1, 1, 2, 3))):
        pieces.append((False, words(False)))
        if r.random() < 0.2:
            pieces.append((True, words(True)))
    return pieces if r.random() < 0.97 else [(True, words(True))]


def _deltas(r: random.Random, pieces: list[tuple[bool, str]]) -> list[dict[str, Any]]:
    """In one of the forms that thoughts come in, text and thoughts cut anywhere."""
    form = r.choice(("marks", "marks", "beside", "parts"))
    deltas: list[dict[str, Any]] = []
    for index, (thought, text) in enumerate(pieces):
        if thought and form == "marks":
            opens, closes = r.choice(_MARKS)
            last = index == len(pieces) - 1
            text = opens + text + ("" if last and r.random() < 0.5 else closes)
        elif thought and form == "beside":
            key = r.choice(("reasoning_content", "reasoning", "reasoning_details", "thinking"))
            deltas += [{key: _content(r, cut)} for cut in _split(r, text)]
            continue
        elif thought:
            kind = r.choice(("thinking", "reasoning", "reasoning.text"))
            deltas += [
                {"content": [{"type": kind, "thinking": [{"type": "text", "text": cut}]}]} for cut in _split(r, text)
            ]
            continue
        deltas += [{"content": _content(r, cut)} for cut in _split(r, text)]
    return deltas


def _split(r: random.Random, text: str) -> list[str]:
    """Anywhere, also within a character of two UTF-16 units."""
    units = text.encode("utf-16-le")
    size = r.choice((1, 2, 3, 5, 8, 1000))
    return [units[i : i + 2 * size].decode("utf-16-le", "surrogatepass") for i in range(0, len(units), 2 * size)]


def _content(r: random.Random, text: str) -> Any:
    return r.choice((text, text, text, text, [text], [{"type": "text", "text": text}], {"type": "text", "text": text}))


def _chunk(r: random.Random, delta: dict[str, Any]) -> dict[str, Any]:
    if r.random() < 0.1:
        delta = {"role": "assistant", **delta}
    if r.random() < 0.1:
        delta = {"tool_calls": None, "refusal": None, "function_call": None, **delta}
    choice: dict[str, Any] = {"index": r.choice((0, 0, 0, None)), "delta": delta}
    choice["finish_reason"] = r.choice((None, None, None, ""))
    chunk: dict[str, Any] = {"id": "x", "object": "chat.completion.chunk", "choices": [choice]}
    if r.random() < 0.1:
        chunk |= r.choice(
            (
                {"error": None},
                {"usage": None},
                {"usage": {"prompt_tokens": -5, "completion_tokens": float("nan")}},
                {"usage": [1, 2]},
                {"timings": {"prompt_n": 1e400, "cache_n": True}},
                {"model": None},
            )
        )
    return chunk


def _junk(r: random.Random, chunks: list[dict[str, Any]]) -> list[Any]:
    """Chunks that say nothing, between the others."""
    nothing: list[Any] = [
        None, [], {}, 5, True, {"choices": None}, {"choices": []}, {"choices": [None]}, {"choices": [{}]},
        {"choices": [{"delta": None}]}, {"choices": [{"delta": []}]}, {"choices": [{"delta": {"content": None}}]},
        {"choices": [{"delta": {"content": []}}]}, {"choices": [{"delta": {"content": [None, {}, [[]]]}}]},
        {"choices": [{"index": 1, "delta": {"content": CANARY}}]}, {"choices": [{"delta": {"role": "assistant"}}]},
        {"choices": [{"delta": {"content": ""}, "logprobs": {"content": [{"logprob": None}]}}]}, {"object": "ping"},
        {"choices": "none"}, {"choices": {"0": 1}}, {"usage": {}}, {"prompt_filter_results": [{}]},
    ]  # fmt: skip
    mixed: list[Any] = []
    for chunk in chunks:
        mixed += [chunk] if r.random() < 0.7 else [r.choice(nothing), chunk]
    return mixed


def _ends(r: random.Random) -> list[bytes]:
    reason = r.choice(("stop", "length", "eos", "STOP", "end_turn", {"type": "stop"}))
    last = {"choices": [{"index": 0, "delta": r.choice(({}, None, {"content": ""})), "finish_reason": reason}]}
    usage = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}
    told = r.random() < 0.9
    ends = [_line(r, last)] if told else []
    ends += [_line(r, usage)] if r.random() < 0.3 else []
    if not told or r.random() < 0.8:
        ends.append(r.choice((b"data: [DONE]\n\n", b"data:[DONE]\n\n", b"data: [DONE]", b"data: [DONE]\r\n\r\n")))
    return ends


def _line(r: random.Random, chunk: Any) -> bytes:
    written = json.dumps(chunk, ensure_ascii=r.random() < 0.5).encode("utf-8", "surrogatepass")
    if b"\xed" in written:  # half a character cannot be written as UTF-8
        written = json.dumps(chunk).encode()
    before = r.choice(
        (b"data: ", b"data: ", b"data: ", b"data:", b": ping\n\ndata: ", b"event: message\ndata: ", b"id: 7\ndata: ")
    )
    return before + written + r.choice((b"\n\n", b"\n\n", b"\r\n\r\n", b"\n", b"\r\r"))


def _cut(r: random.Random, lines: list[bytes | None]) -> list[bytes | None]:
    parts: list[bytes | None] = []
    size = r.choice((1, 3, 17, 200, 10**9))
    for line in lines:
        if line is None:
            parts.append(None)
        elif size == 10**9:
            parts.append(line)
        else:
            step = max(size, len(line) // 2000)
            parts += [line[i : i + step] for i in range(0, len(line), step)]
    if r.random() < 0.2:
        joined: list[bytes | None] = []
        for part in parts:
            if part is not None and joined and joined[-1] is not None:
                joined[-1] += part
            else:
                joined.append(part)
        parts = joined
    return parts


def _none(r: random.Random, case: Case, lines: list[bytes | None]) -> list[bytes | None]:
    return lines


def _broken_off(r: random.Random, case: Case, lines: list[bytes | None]) -> list[bytes | None]:
    case.whole = False
    kept = lines[: r.randrange(len(lines) + 1)]
    if kept and kept[-1] and r.random() < 0.5:
        kept[-1] = kept[-1][: r.randrange(len(kept[-1]))]
    return kept


def _error(r: random.Random, case: Case, lines: list[bytes | None]) -> list[bytes | None]:
    case.whole = False
    says: Any = r.choice(
        ({"error": "CUDA out of memory"}, {"error": {"message": "late", "code": 500}}, {"detail": [{"msg": "no"}]},
         {"object": "error", "message": "bad"}, {"error": {"code": None}}, {"errors": [[[]]]},
         {"error": {"error": {"error": 1}}})
    )  # fmt: skip
    written = json.dumps(says).encode()
    shape = r.choice(
        (
            b"data: %s\n\n",
            b"event: error\ndata: %s\n\n",
            b"error: %s\n\n",
            b"%s\n",
            b"data: Internal Server Error %s\n\n",
        )
    )
    at = r.randrange(len(lines) + 1)
    return [*lines[:at], b"\n" + shape % written, *lines[at:]]


def _silent(r: random.Random, case: Case, lines: list[bytes | None]) -> list[bytes | None]:
    case.whole = False
    at = r.randrange(len(lines) + 1)
    pings: list[bytes | None] = [b": ping\n\n", None] * r.choice((0, 100))
    return [*lines[:at], *pings, None, None, None]


def _left_open(r: random.Random, case: Case, lines: list[bytes | None]) -> list[bytes | None]:
    return [*lines, b"\n", *[None] * 9]


def _garbage(r: random.Random, case: Case, lines: list[bytes | None]) -> list[bytes | None]:
    case.whole = False
    rubbish = r.choice(
        (r.randbytes(r.randrange(300)), b"data: {not json\n\n", b"<!doctype html><p>Sign in</p>", b'{"detail":"no"}',
         b"null", b"data: " + b"[" * 5000 + b"\n\n", b"data: " + b"9" * 5000 + b"\n\n", b"\x00\x1b]0;x\x07\n\n",
         b'{"choices": [', b'data: "text"\n\n', b"\xff\xfe{\x00",
         b'data: {"choices": [{"delta": {"content": ' + b"[" * 200 + b"]" * 200 + b"}}]}\n\n")
    )  # fmt: skip
    at = r.randrange(len(lines) + 1)
    return [rubbish] if r.random() < 0.5 else [*lines[:at], b"\n" + rubbish + b"\n\n", *lines[at:]]


def _giant(r: random.Random, case: Case, lines: list[bytes | None]) -> list[bytes | None]:
    case.whole = False
    at = r.randrange(len(lines) + 1)
    size = r.choice((5_000, 300_000, 1_100_000))
    big: Any = {
        "choices": [
            {
                "delta": r.choice(
                    ({"content": "y" * size}, {"content": "y. " * (size // 3)}, {"reasoning": CANARY * (size // 3)})
                )
            }
        ]
    }
    giant = r.choice((b"data: " + json.dumps(big).encode() + b"\n\n", b"x" * size, b": " + b"p" * size + b"\n\n"))
    return [*lines[:at], b"\n" + giant + b"\n\n", *lines[at:]]


def _reason(r: random.Random, case: Case, lines: list[bytes | None]) -> list[bytes | None]:
    case.whole = False
    reason = r.choice(("error", "abort", "content_filter", "tool_calls", "cancelled", 7, ["x"], {"a": 1}))
    return [*lines[:-1], _line(r, {"choices": [{"delta": {}, "finish_reason": reason}]}), b"data: [DONE]\n\n"]


def _refused(r: random.Random, case: Case, lines: list[bytes | None]) -> list[bytes | None]:
    case.whole, case.status = False, r.choice((400, 401, 404, 422, 429, 500, 503))
    says: list[bytes | None] = [
        b'{"error": {"message": "no"}}',
        b"<h1>Bad gateway</h1>",
        b"",
        b"[[[",
        b"\xff" * 200_000,
    ]
    return [r.choice(says)]


_FAULTS = (_none, _broken_off, _error, _silent, _left_open, _garbage, _giant, _reason, _refused)
_WEIGHTS = (40, 14, 12, 5, 5, 10, 1, 5, 5)
