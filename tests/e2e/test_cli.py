"""The command line as a user meets it, in processes of their own, with real models."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import wave
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import yaml

from tests.conftest import DEMO_MODELS, EXAMPLES, QUESTION, require_model, require_package, write_wav
from thalweg.deploy.commands.reference.generate import generated
from thalweg.deploy.commands.reference.schema import pipeline_schema
from thalweg.models.store.store import default_root

ROOT = Path(__file__).parent.parent.parent
THALWEG = [sys.executable, "-m", "thalweg.deploy"]
VOICE = str(EXAMPLES / "voice_turn.yaml")


def thalweg(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [*THALWEG, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, cwd=cwd, env=env)


@pytest.mark.usefixtures("voice_demo")
def test_the_demo_answers_both_questions_aloud_with_no_model_but_those_that_make_demo_fetches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_package("matplotlib", "plot")
    (tmp_path / "models").mkdir()
    for name in DEMO_MODELS:
        (tmp_path / "models" / name).symlink_to(default_root() / name)
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "models"))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")  # so that nothing more can be fetched
    answer, report, trace, timeline = (tmp_path / n for n in ("a.wav", "r.json", "t.json", "t.png"))
    outputs = ["--report", str(report), "--trace", str(trace), "--timeline", str(timeline)]
    done = thalweg("run", VOICE, "--set", f"input={QUESTION}", "--set", f"output={answer}", *outputs)
    found = json.loads(report.read_text())
    assert done.returncode == 0, done.stderr
    assert found["turns"][0]["transcript"] == "What is the capital of France?"
    assert "Paris" in found["turns"][0]["reply"]
    assert "Paris" in done.stdout
    assert len(found["turns"]) == 2
    for turn in found["turns"]:
        guessed_ms = turn["first_partial_ms"] or 0  # where the machine is so busy that the end overtook all guesses
        assert guessed_ms < turn["final_transcript_ms"] < turn["first_token_ms"] < turn["first_audio_ms"]
    with wave.open(str(answer)) as file:
        assert file.getnframes() > file.getframerate()
    assert {event["ph"] for event in json.loads(trace.read_text())["traceEvents"]} == {"M", "X", "i"}
    assert timeline.read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("voice_demo")
def test_ctrl_c_ends_within_two_seconds_with_a_report(tmp_path: Path) -> None:
    long = write_wav(tmp_path / "long.wav", np.zeros(16_000 * 60, np.float32))
    report = tmp_path / "r.json"
    settings = ["--set", f"input={long}", "--set", f"output={tmp_path / 'a.wav'}", "--report", str(report)]
    settings += ["--set", "recogniser=pocketsphinx", "--set", "model=smollm2-135m-instruct"]  # loaded by the time
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([*THALWEG, "run", VOICE, *settings], env=env, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob(".a.wav*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(2)
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert time.monotonic() - start < 2.0, said
    assert process.returncode == 130
    assert json.loads(report.read_text())["stopped"] is True
    assert "Traceback" not in said


@pytest.mark.usefixtures("voice_demo")
def test_a_long_recording_is_transcribed_in_constant_memory(tmp_path: Path) -> None:
    question = subprocess.run(
        [sys.executable, "-c", _REPEAT.format(path=str(QUESTION), n=16, out=str(tmp_path / "long.wav"))],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert question.returncode == 0, question.stderr
    out = tmp_path / "t.jsonl"
    done = thalweg(
        "run",
        str(EXAMPLES / "transcribe_long.yaml"),
        "--set",
        f"input={tmp_path / 'long.wav'}",
        "--set",
        f"output={out}",
        "--set",
        "recogniser=pocketsphinx",
    )
    finals = [line for line in map(json.loads, out.read_text().splitlines()) if line["final"]]
    assert done.returncode == 0, done.stderr
    assert len(finals) == 32


_REPEAT = """
import av, numpy as np, wave
resampler = av.AudioResampler(format="s16", layout="mono", rate=16000)
with av.open({path!r}) as file:
    once = np.concatenate([f.to_ndarray()[0] for g in file.decode(audio=0) for f in resampler.resample(g)])
with wave.open({out!r}, "wb") as out:
    out.setparams((1, 2, 16000, 0, "NONE", ""))
    for _ in range({n}):
        out.writeframes(once.tobytes())
"""


@pytest.mark.usefixtures("voice_demo")
def test_transcribe_prints_partials_and_finals_with_times() -> None:
    done = thalweg("transcribe", str(QUESTION), "--json", "--engine", "pocketsphinx")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    finals = [line for line in lines if line["final"]]
    assert done.returncode == 0, done.stderr
    assert "how many days" in finals[1]["text"]
    assert finals[0]["words"][0]["start_s"] < finals[0]["words"][-1]["start_s"] < finals[0]["time_s"]
    assert len(lines) > len(finals)


def test_transcribe_writes_subtitles_with_whisper_unless_told_otherwise(tmp_path: Path) -> None:
    require_package("ctranslate2", "whisper")
    require_model("whisper-base")
    require_model("silero-vad")
    done = thalweg("transcribe", str(QUESTION), "--language", "en", "--to", str(tmp_path / "a.srt"))
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "a.srt").read_text(encoding="utf-8").splitlines()
    assert lines[2::4] == ["What is the capital of France?", "How many days are in a week?"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nowhere.yaml"], "cannot read nowhere.yaml: No such file or directory"),
        (["run", VOICE], "variable 'input' has no value: give it with --set input=…"),
        (["run", VOICE, "--set", "input=nowhere.wav"], "nowhere.wav does not exist"),
        (["run", VOICE, "--set", "input"], "expected name=value"),
        (["transcribe", "x.wav", "--engine", "wisper"], "there is no stage 'speech.wisper'"),
        (["transcribe", "x.wav"], "x.wav does not exist"),
        (["transcribe", "x.wav", "--set", "intervall=1"], "has no parameter 'intervall' (did you mean 'interval'?)"),
        (["transcribe", "x.wav", "--set", "interval=[1"], "'[1' is not a length of time: give a number with a unit"),
        (["run", VOICE, "--set", "input=x.wav", "--report", "no/folder/x.json"], "there is no folder"),
        (["run", VOICE, "--set", "input=x.wav", "--timeline", "x.xyz"], "expected a name that ends in .png"),
        (["models", "convert", "x.nemo", "--out", "y", "--lookahead", "90"], "'90' is not a length of time"),
        (["models", "path", "nvidia/stt_en_fastconformer_hybrid_large_streaming_80ms"], "is not here yet"),
        (["serve", VOICE, "--port", "70000"], "70000 is not in the range"),
        (["talk", "nohost"], "did you mean http://nohost?"),
        (["new", "stage", "class"], "'class' cannot name a Python module"),
        (["models", "pull", "gpt"], "there is no model 'gpt'"),
        (["stages", "speech.vat"], "did you mean 'speech.vad'?"),
    ],
)
def test_what_cannot_be_run_ends_with_one_message_and_a_code(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    done = thalweg(*arguments, cwd=tmp_path)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_an_example_is_found_by_its_bare_name_but_not_in_place_of_a_file_here(tmp_path: Path) -> None:
    done = thalweg("validate", "voice_turn.yaml", "--set", "input=x.wav", cwd=tmp_path)
    assert "all well" in done.stdout
    (tmp_path / "voice_turn.yaml").write_text("name: mine")
    done = thalweg("validate", "voice_turn.yaml", cwd=tmp_path)
    assert done.returncode == 2


def test_validate_and_graph_need_no_model(tmp_path: Path) -> None:
    assert "8 stages, 10 connections" in thalweg("validate", VOICE, "--set", "input=x").stdout
    assert "vad -->|Speech| recogniser" in thalweg("graph", VOICE, "--set", "input=x").stdout
    thalweg("graph", VOICE, "--set", "input=x", "--format", "svg", "-o", "g.svg", cwd=tmp_path)
    assert (tmp_path / "g.svg").read_text().startswith("<svg")


def test_a_report_may_go_to_standard_output(tmp_path: Path) -> None:
    file = tmp_path / "echo.yaml"
    file.write_text("stages: {a: {use: audio.file, path: a.wav, pace: full}, b: sink.jsonl}\nconnections: [a -> b]\n")
    write_wav(tmp_path / "a.wav", np.zeros(320, np.float32))
    done = thalweg("run", "echo.yaml", "-q", "--report", "/dev/stdout", cwd=tmp_path)
    assert '"listens": false' in done.stdout
    assert done.returncode == 0, done.stderr


def test_what_new_writes_works(tmp_path: Path) -> None:
    assert thalweg("new", "stage", "louder", cwd=tmp_path).returncode == 0
    assert thalweg("new", "pipeline", "talk", cwd=tmp_path).returncode == 0
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path, env=env)
    assert "2 passed" in done.stdout
    assert thalweg("new", "stage", "louder", cwd=tmp_path).returncode == 2


@pytest.mark.parametrize("name", sorted(generated()))
def test_generated_files_are_current(name: str) -> None:
    assert (ROOT / name).read_text() == generated()[name], "run `make reference`"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_the_examples_fit_the_schema(path: Path) -> None:
    jsonschema.validate(yaml.safe_load(path.read_text(encoding="utf-8")), pipeline_schema())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stages: {a: {use: speech.vad, treshold: 1}}", "('treshold' was unexpected)"),
        ("stages: {a: {use: speech.vad, threshold: 3}}", "3 is greater than"),
        ("stages: {a: {use: speech.vda}}", "'speech.vda' is not one of ['audio.file', "),
        ("stages: {a: speech.vda}", "'speech.vda' is not one of ['audio.file', "),
        ("stages: {a: {use: audio.file}}", "'path' is a required property"),
        ("connections: [a b]", "'a b' does not match '->'"),
        ("connections: [{from: a, to: b, polcy: x}]", "('polcy' was unexpected)"),
        ("workers: {a: ray2}", "'ray2' is not one of"),
        ("workers: {a: {lancher: ray}}", "('lancher' was unexpected)"),
    ],
)
def test_an_editor_says_of_a_mistake_what_it_is(text: str, said: str) -> None:
    (error,) = jsonschema.Draft202012Validator(pipeline_schema()).iter_errors(yaml.safe_load(text))
    assert said in error.message


@pytest.mark.parametrize(
    "text",
    [
        "stages: {a: {use: 'mine:Stage', anything: 1}, b: 'mine:Other', c: speech.vad}",
        "stages: {a: {use: speech.vad, threshold: '${x}', silence: 300ms}}",
        "workers: {a: ray, b: {launcher: subprocess}}",
    ],
)
def test_an_editor_complains_of_nothing_that_is_right(text: str) -> None:
    jsonschema.validate(yaml.safe_load(text), pipeline_schema())


def test_a_pipeline_is_drawn_and_planned_without_values_for_its_variables(tmp_path: Path) -> None:
    for number, arguments in enumerate((("graph", "-o"), ("graph", "--svg"), ("plan", "--svg"))):
        command, option = arguments
        picture = tmp_path / f"{number}.svg"
        done = thalweg(command, VOICE, option, str(picture))
        assert done.returncode == 0, done.stderr
        assert "<svg" in picture.read_text(encoding="utf-8")
    assert thalweg("graph", VOICE).stdout.startswith("flowchart")


def test_the_schema_refuses_a_misspelt_parameter() -> None:
    bad = {"stages": {"v": {"use": "speech.vad", "silense": "300ms"}}, "connections": []}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(bad, pipeline_schema())
