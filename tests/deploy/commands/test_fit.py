"""What is said of models that are too large, with the variable that names a smaller one."""

from __future__ import annotations

import pytest

from tests.conftest import EXAMPLES
from thalweg.deploy.commands.fit import models_of, tell_fit
from thalweg.deploy.reading import read_spec

VOICE = read_spec(EXAMPLES / "voice_turn.yaml", {"input": "x.wav"})


def test_one_processor_is_told_which_word_to_set(capsys: pytest.CaptureFixture[str]) -> None:
    tell_fit(VOICE, cores=1, memory=8_000_000_000)
    assert capsys.readouterr().err.splitlines() == [
        "qwen2.5-coder-0.5b-instruct may be too large for this machine (there is one processor): "
        "--set model=smollm2-135m-instruct is smaller",
        "whisper-base may be too large for this machine (there is one processor): "
        "--set recogniser=whisper-tiny.en is smaller",
    ]


def test_a_machine_that_is_large_enough_is_told_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    tell_fit(VOICE, cores=2, memory=8_000_000_000)
    assert capsys.readouterr().err == ""


def test_the_models_of_a_pipeline_are_those_that_its_stages_name() -> None:
    assert [model.name for model in models_of(VOICE)] == ["whisper-base", "qwen2.5-coder-0.5b-instruct"]
