"""The same output and the same speech in any locale."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import require

pytestmark = pytest.mark.real

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""A locale that is not UTF-8, on any machine, and a person who has told Python to stay in it."""
LATIN = {"LC_ALL": "en_US.ISO-8859-1"}
PIPELINE = """
name: Grüße
description: 東京
variables: {word: {description: "–"}}
stages: {say: {use: "talker:Talker", words: 2, say: "${word}"}, out: sink.jsonl}
connections: [say -> out]
"""


def python(environment: dict[str, str], *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHONUTF8"))
    }
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=inherited | environment, cwd=cwd, capture_output=True, timeout=60, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    from tests.deploy.commands.test_output import TALKER

    (tmp_path / "talker.py").write_text(TALKER, encoding="utf-8")
    (tmp_path / "東京.yaml").write_text(PIPELINE, encoding="utf-8")
    return tmp_path


@pytest.fixture(params=["ascii", "latin-1"])
def locale(request: pytest.FixtureRequest) -> dict[str, str]:
    if request.param == "ascii":
        return ASCII
    seen = python(LATIN, "-c", "import sys; print(sys.getfilesystemencoding())").stdout.strip()
    require(seen == b"iso8859-1", "localedef -i en_US -f ISO-8859-1 en_US.ISO-8859-1 (apt-get install locales)")
    return LATIN


def test_a_listing_is_printed_the_same(locale: dict[str, str]) -> None:
    ran = python(locale, "-m", "thalweg.deploy", "stages")
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert "· → audio: AudioChunk" in ran.stdout.decode()


def test_a_pipeline_and_its_report_are_the_same(locale: dict[str, str], folder: Path) -> None:
    (folder / "plain.yaml").write_text((folder / "東京.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    run = ("-m", "thalweg.deploy", "run", "plain.yaml", "-q", "--report", "r.json", "--set", "word=Tokyo")
    ran = python(locale, *run, cwd=folder)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert json.loads(ran.stdout.splitlines()[0])["text"] == "Tokyo 0 "
    assert json.loads((folder / "r.json").read_text(encoding="utf-8"))["pipeline"] == "Grüße"


def test_names_of_files_and_values_on_the_command_line_are_the_same(folder: Path) -> None:
    require(
        python(LATIN, "-c", "import sys; print(sys.getfilesystemencoding())").stdout.strip() == b"iso8859-1",
        "localedef -i en_US -f ISO-8859-1 en_US.ISO-8859-1 (apt-get install locales)",
    )
    run = ("-m", "thalweg.deploy", "run", "東京.yaml", "-q", "--set", "word=大阪")
    ran = python(LATIN, *run, cwd=folder)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert json.loads(ran.stdout.splitlines()[0])["text"] == "大阪 0 "


def test_a_voice_knows_the_same_phonemes(locale: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("piper")
    script = (
        "import sys, types; sys.modules['onnxruntime'] = fake = types.ModuleType('onnxruntime')\n"
        "fake.SessionOptions = type('O', (), {'add_session_config_entry': lambda *a: None})\n"
        "fake.InferenceSession = lambda *a, **k: None\n"
        "fake.GraphOptimizationLevel = None\n"
        "from pathlib import Path; from thalweg.models.speech.piper import PiperVoice\n"
        f"voice = PiperVoice(Path({str(tmp_path / 'voice.onnx')!r}), Path({str(tmp_path / 'voice.json')!r}))\n"
        "print(ascii(sorted(voice._voice.config.phoneme_id_map)))"
    )
    known = {
        "audio": {"sample_rate": 22050}, "espeak": {"voice": "en-us"}, "num_symbols": 2, "num_speakers": 1,
        "phoneme_type": "espeak", "phoneme_id_map": {"ɹ": [1], "θ": [2]},
    }  # fmt: skip
    (tmp_path / "voice.onnx").write_bytes(b"\x08\x08" * 600)
    (tmp_path / "voice.json").write_text(json.dumps(known, ensure_ascii=False), encoding="utf-8")
    ran = python(locale | {"PYTHONUTF8": "0"}, "-c", script)
    assert ran.stdout.decode().strip() == ascii(["ɹ", "θ"]), ran.stderr.decode()
