"""Thoughts in the text: in every dialect, cut anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.models.language.thinking import ThinkingFilter


def sort(text: str, size: int = 10**9, unmarked: bool = False) -> tuple[str, str]:
    """What is said and what is thought."""
    sorter = ThinkingFilter(unmarked)
    told = [piece for at in range(0, len(text), size) for piece in sorter.feed(text[at : at + size])] + sorter.end()
    return "".join(t for thought, t in told if not thought), "".join(t for thought, t in told if thought)


DIALECTS = {
    "think": "<think>\nhm\n</think>\n\nParis.",
    "capitals": "<THINK>hm</Think>Paris.",
    "thinking": "<thinking>hm</thinking> Paris.",
    "thought": "<thought>hm</thought>\nParis.",
    "reasoning": "<reasoning>hm</reasoning>\nParis.",
    "seed": "<seed:think>hm</seed:think>Paris.",
    "attributes": '<think mood="deep">hm</think >Paris.',
    "Magistral": "[THINK]hm[/THINK]Paris.",
    "Kimi": "◁think▷hm◁/think▷Paris.",
    "Sky": "<|begin_of_thought|>hm<|end_of_thought|><|begin_of_solution|>Paris.<|end_of_solution|>",
    "Cohere": "<|START_THINKING|>hm<|END_THINKING|><|START_RESPONSE|>Paris.<|END_RESPONSE|>",
    "Gemma": "<unused94>thought\nhm<unused95>Paris.",
    "a page's": '<details type="reasoning" done="true"><summary>hm</summary></details>Paris.',
    "gpt-oss": "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Paris.<|return|>",
    "gpt-oss, calling": "<|start|>assistant<|channel|>commentary<|message|>hm<|call|><|channel|>final<|message|>Paris.",
    "an answer's own tag": "<think>hm</think><answer>Paris.</answer>",
    "opened twice": "<think>\n<think>\nhm</think>Paris.",
    "the tag as a subject": "<think>they ask about <think> tags, hm</think>Paris.",
    "thoughts in thoughts": "<think>hm <think>deeper</think> and back</think>Paris.",
    "thoughts twice": "<think>hm</think><think>hm again</think>Paris.",
}  # fmt: skip


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_what_is_thought_is_not_said(dialect: str, size: int) -> None:
    said, thought = sort(DIALECTS[dialect], size)
    assert said == "Paris."
    assert "hm" in thought


def test_thoughts_between_what_is_said_are_left_out() -> None:
    assert sort("Well. <think>hm</think>Paris.", 1)[0] == "Well. Paris."


def test_thoughts_that_do_not_end_are_not_said() -> None:
    assert sort("Well. <think>hm, Paris", 3) == ("Well. ", "hm, Paris")


@pytest.mark.parametrize(
    "text", ["a < b", "a <b>x</b>", "1 <2", "[sic] [t", "if <think", "a<", "x <| y |> z", "<thin air>", "◁", "<table>"]
)
@pytest.mark.parametrize("size", [1, 1000])
def test_what_only_looks_like_a_mark_is_said(text: str, size: int) -> None:
    assert sort(text, size) == (text, "")


@pytest.mark.parametrize("end", ["<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|endoftext|>", "<｜end▁of▁sentence｜>"])
def test_what_comes_behind_the_end_of_the_turn_is_not_said(end: str) -> None:
    assert sort(f"Paris.{end}\n<|im_start|>user\nAnd Rome?", 3) == ("Paris.", "")


@pytest.mark.parametrize(
    "head",
    ["<|im_start|>assistant\n", "<|start_header_id|>assistant<|end_header_id|>\n\n", "<start_of_turn>model\n", "<s>"],
)
def test_the_head_of_a_turn_is_not_said(head: str) -> None:
    assert sort(f"{head}Paris.", 4)[0].strip() == "Paris."


def test_a_turn_of_the_person_that_the_model_makes_up_is_not_said() -> None:
    assert sort("Paris.<|im_start|>user\nAnd Rome?", 1) == ("Paris.", "")


def test_a_mark_that_closes_what_nothing_opened_says_that_it_was_thought() -> None:
    sorter = ThinkingFilter()
    sorter.feed("hm</think>Paris.")
    assert sorter.stray


def test_a_model_that_opens_its_thoughts_without_a_mark_is_heard_from_the_mark_that_closes_them() -> None:
    assert sort("hm\n</think>\n\nParis.", 2, unmarked=True) == ("Paris.", "hm\n")
    assert sort("<think>hm</think>Paris.", 2, unmarked=True) == ("Paris.", "hm")


def test_a_model_that_might_but_does_not_is_heard_at_the_end() -> None:
    assert sort("Paris.", 2, unmarked=True) == ("Paris.", "")


def test_thoughts_that_come_beside_the_text_need_no_waiting_for_a_mark() -> None:
    sorter = ThinkingFilter(unmarked=True)
    sorter.apart()
    assert sorter.feed("Paris. ") == [(False, "Paris. ")]


@given(
    st.lists(
        st.sampled_from(["<think>", "</think>", "[THINK]", "<|", "|>", "a", " ", "<", "<|im_end|>", "\n", "<details>"])
    ),
    st.integers(1, 9),
)
def test_however_it_is_cut_the_same_is_said(parts: list[str], size: int) -> None:
    text = "".join(parts)
    assert sort(text, size) == sort(text)
