"""Processes that we start run our modules and Python's own, and nothing that lies in the folder somebody is in."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

from thalweg.models.child_process import without_secrets
from thalweg.models.errors import ModelError
from thalweg.models.speech.fastconformer.nemo_archive import open_nemo
from thalweg.models.store.fetching.wheels import wheel_addresses

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("room", ["pipeline", "models", "transports", "stages", "deploy"])
def test_modules_are_run_by_the_one_command_that_leaves_the_current_folder_out(room: str) -> None:
    found = set()
    for path in sorted((ROOT / room).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(("deploy/bench/", "models/recipes/")) or name == "models/child_process.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            told = (
                node.elts if isinstance(node, ast.List | ast.Tuple) else node.args if isinstance(node, ast.Call) else []
            )
            parts = [ast.unparse(part) for part in told]
            if "sys.executable" in parts and "'-m'" in parts:
                found.add(f"{name}:{node.lineno}")
    assert found == set(), "use thalweg.models.child_process"


def read_an_archive(folder: Path) -> None:
    (folder / "a.nemo").write_bytes(bytes(100))
    open_nemo(Path("a.nemo"))


def ask_pip(folder: Path) -> None:
    wheel_addresses(["thalweg==no-version"])  # refused before anything is asked for


@pytest.mark.real
@pytest.mark.parametrize("command", [read_an_archive, ask_pip])
@pytest.mark.parametrize("module", ["contextlib", "struct", "pip"])
def test_a_module_beside_what_is_read_is_not_run(
    command: Callable[[Path], None], module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"{module}.py").write_text("open('ran', 'w')\n", encoding="utf-8")
    with pytest.raises(ModelError):
        command(tmp_path)
    assert not (tmp_path / "ran").exists()


NEED_KEYS = {
    "deploy/cluster/subprocess_host.py": "workers, whose stages ask model servers",
    "deploy/fleet/node/running.py": "the pipeline of a node, likewise",
    "deploy/ops/keeping/up.py": "the keeper of a deployment, which starts its workers",
    "deploy/server/hosts/subprocesses.py": "conversation hosts, whose stages ask model servers",
}
"""Which processes get the environment as it is, with the keys in it."""


@pytest.mark.parametrize("room", ["pipeline", "models", "transports", "stages", "deploy"])
def test_processes_that_need_no_keys_are_given_none(room: str) -> None:
    found = set()
    for path in sorted((ROOT / room).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(("deploy/bench/", "models/recipes/")) or name in NEED_KEYS:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and any("python_module(" in ast.unparse(given) for given in node.args):
                given = [ast.unparse(keyword.value) for keyword in node.keywords if keyword.arg == "env"]
                if not given or "without_secrets(" not in given[0]:
                    found.add(f"{name}:{node.lineno}")
    assert found == set(), "use thalweg.models.child_process.without_secrets"


@pytest.mark.parametrize(
    "name",
    ["OPENAI_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "THALWEG_ADMIN_TOKEN", "PGPASSWORD", "GOOGLE_CREDENTIALS"],
)
def test_variables_with_secrets_are_known_by_their_names(name: str) -> None:
    kept = {"PATH": "/bin", "THALWEG_KEYS": "A_KEY=https://a.example", "TOKENIZERS_PARALLELISM": "0"}
    assert without_secrets(kept | {name: "s3cret"}) == kept
    assert without_secrets(kept | {name: "s3cret"}, keep={name}) == kept | {name: "s3cret"}
