"""What the words of a turn say about its end."""

from __future__ import annotations

import pytest

from thalweg.pipeline.dialogue.completeness import Completeness, completeness


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Completeness.OPEN),
        ("I would like to", Completeness.GOES_ON),
        ("so um", Completeness.GOES_ON),
        ("first of all,", Completeness.GOES_ON),
        ("well...", Completeness.GOES_ON),
        ("What is the capital of?", Completeness.GOES_ON),
        ("Can you tell me?", Completeness.GOES_ON),
        ("Where can I?", Completeness.GOES_ON),
        ("If you go to Paris.", Completeness.GOES_ON),
        ("If you go to Paris, take a coat.", Completeness.WHOLE),
        ("Where are you from?", Completeness.OPEN),
        ("I think so.", Completeness.WHOLE),
        ("one two three", Completeness.DICTATED),
        ("my code is 4 7", Completeness.DICTATED),
        ("You can call me at 555-123.", Completeness.DICTATED),
        ("You can call me at 555-1234.", Completeness.NUMBER),
        ("You can call me at five five five one two three four five six seven", Completeness.WHOLE),
        ("My card number is 4000 1234 5678.", Completeness.DICTATED),
        ("My card number is 4000 1234 5678 9010.", Completeness.WHOLE),
        ("The code is 123.", Completeness.DICTATED),
        ("The code is 123 456.", Completeness.WHOLE),
        ("double five one two three", Completeness.NUMBER),
        ("I was born in nineteen eighty four.", Completeness.WHOLE),
        ("Wake me up at five thirty.", Completeness.NUMBER),
        ("Is it 1984?", Completeness.WHOLE),
        ("It costs 25.", Completeness.WHOLE),
        ("We need milk, eggs", Completeness.LISTED),
        ("We need milk. Eggs.", Completeness.LISTED),
        ("We need milk, eggs, and bread.", Completeness.WHOLE),
        ("Is it milk, eggs?", Completeness.WHOLE),
        ("Tell me a joke, please.", Completeness.WHOLE),
        ("Hello, Anna.", Completeness.OPEN),
        ("How are you?", Completeness.WHOLE),
        ("what time is it", Completeness.WHOLE),
        ("Tell me a joke.", Completeness.WHOLE),
        ("thanks", Completeness.WHOLE),
        ("the weather in london", Completeness.OPEN),
        ("who is that", Completeness.WHOLE),
        ("die Hauptstadt von Frankreich", Completeness.OPEN),
        ("No.", Completeness.WHOLE),
        ("no", Completeness.WHOLE),
        ("Call Mr. Smith.", Completeness.WHOLE),
        ("Thank you. Goodbye.", Completeness.WHOLE),
        ("Good morning, Anna.", Completeness.WHOLE),
        ("What a day. I went to the bank and bought", Completeness.OPEN),
        ("If it rains take a coat. It is cold there.", Completeness.WHOLE),
        ("I am tired. If you go to Paris.", Completeness.GOES_ON),
    ],
)
def test_words_say_whether_they_go_on(text: str, expected: Completeness) -> None:
    assert completeness(text) is expected


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("de", "Mach das Licht an.", Completeness.WHOLE),
        ("de", "Ruf mich an", Completeness.OPEN),
        ("de", "Ja, danke.", Completeness.OPEN),
        ("de", "Meine Nummer ist 0711 12", Completeness.NUMBER),
        ("de", "Ich hätte gern,", Completeness.GOES_ON),
        ("zh", "法国的首都是哪里？", Completeness.WHOLE),
        ("zh", "我要牛奶，", Completeness.GOES_ON),
        ("ar", "ما اسمك؟", Completeness.WHOLE),
        ("fr", "", Completeness.OPEN),
        ("en", "Turn on the", Completeness.GOES_ON),
    ],
)
def test_of_other_languages_marks_and_figures_tell(language: str, text: str, expected: Completeness) -> None:
    assert completeness(text, language) is expected
