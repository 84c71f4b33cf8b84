"""How files and sentences are written.

Files of people are opened for writing in one place, which makes them their owner's alone (`stages.io.private`).
Docstrings, comments and messages name their subject.
"""

from __future__ import annotations

import ast
import io
import os
import re
import stat
import tokenize
from collections.abc import Callable
from pathlib import Path

import pytest

from thalweg.deploy.ops.keeping.logs import MOST_BYTES, trim
from thalweg.deploy.ops.observing.outcome import Outcome
from thalweg.deploy.ops.observing.report import write_report, write_whole
from thalweg.deploy.ops.pictures.trace_file import write_trace
from thalweg.deploy.transcripts.journal import Journal
from thalweg.stages.io.private import append_private, create_private
from thalweg.stages.io.whole import WholeFile
from thalweg.transports.recording import RecordingWriter

ROOT = Path(__file__).parent.parent
WRITES = {"write_text", "write_bytes", "mkstemp", "NamedTemporaryFile", "tofile", "savetxt"}
SAVES = {"np.save", "np.savez", "np.savez_compressed", "shutil.copy", "shutil.copy2", "shutil.copyfile"}
OTHERS = {
    "deploy/commands/reference/generate.py": "the repository's own",
    "deploy/commands/protobuf.py": "the repository's own",
    "deploy/commands/scaffolding/scaffold.py": "code that somebody begins with",
    "deploy/ops/keeping/deployments.py": "a lock, 0600, which holds nothing",
    "deploy/ops/observing/report.py": "what is public where it is told so; devices as they are",
    "deploy/fleet/hub/state.py": "a lock, 0600, which holds nothing",
    "deploy/server/hosts/subprocesses.py": "a lock, 0600, which holds nothing",
    "models/senses/packs.py": "a task for tests and benchmarks",
    "models/speech/fastconformer/deployed.py": "a model",
    "models/speech/fastconformer/nemo_archive.py": "a model, in a folder made for it",
    "models/store/fetching/download.py": "a model",
    "models/store/fetching/fetch.py": "a model",
    "models/store/fetching/hub.py": "a model",
    "models/store/store.py": "a model, and the lock beside it",
    "models/store/fetching/wheels.py": "a model",
    "stages/fleet/mavlink_link.py": "a serial line",
    "stages/io/private.py": "this is the place",
    "stages/io/terminal.py": "/dev/null",
    "transports/fleet/durable.py": "0600 unless it is told otherwise, by itself: transports know no stages",
    "transports/fleet/segment.py": "0600 by itself",
    "transports/recording.py": "0600 by itself",
}
"""Who opens files for writing in another way, and why nothing of people is in them."""
RIDDLES = re.compile(r"\b([Ww]ho(m)?ever|[Nn]obody|[Ff]or\s+ever|[Ll]eft\s+out\s+of\s+account)\b")
"""Words that hide the subject of a sentence: name the caller, the consumer, the peer; write no, never, ignored."""


def writes(call: ast.Call) -> bool:
    """Whether a call opens or makes a file, by its look."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    owner = getattr(getattr(call.func, "value", None), "id", "")
    if name in WRITES or f"{owner}.{name}" in SAVES:
        return True
    if name != "open" or (owner == "wave" and not isinstance(call.args[0], ast.Call)):  # into what is open already
        return False
    if owner == "os":
        return any(flag in ast.unparse(call) for flag in ("O_WRONLY", "O_RDWR", "O_CREAT"))
    given = (arg.value for arg in (*call.args, *(key.value for key in call.keywords)) if isinstance(arg, ast.Constant))
    return any(isinstance(mode, str) and re.fullmatch(r"[rbt]*[wax+][bt+]*", mode) for mode in given)


@pytest.mark.parametrize("room", ["pipeline", "models", "transports", "stages", "deploy"])
def test_what_is_written_of_people_goes_through_the_one_place(room: str) -> None:
    found = set()
    for path in sorted((ROOT / room).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(("deploy/bench/", "models/recipes/")) or name in OTHERS:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and writes(node):
                found.add(f"{name}:{node.lineno}")
    assert found == set(), "use thalweg.stages.io.private, or WholeFile, or write_whole"


def nothing() -> Outcome:
    return Outcome(started_ns=0, ended_ns=1, turns={}, stages={}, channels={}, problems=[], events=[])


def whole(path: Path) -> None:
    file = WholeFile(path)
    file.file.write(b"x")
    file.keep()


def recorded(path: Path) -> None:
    RecordingWriter(path, ["a"], {}).close()


def trimmed(path: Path) -> None:
    log = path.with_suffix("")
    log.touch()
    os.truncate(log, MOST_BYTES + 1)
    trim(log)


WRITERS: dict[str, Callable[[Path], object]] = {
    "sound, JSON lines, transcripts, talk --out": whole,
    "reports": lambda path: write_report(path, {}),
    "traces": lambda path: write_trace(path, nothing()),
    "what is asked of a supervising process": lambda path: write_whole(path, "{}"),
    "recordings": recorded,
    "what was transcribed so far": lambda path: Journal(path, {}).close(),
    "logs": lambda path: append_private(path).close(),
    "logs that were full": trimmed,
}


@pytest.mark.parametrize("what", WRITERS)
def test_what_is_written_of_people_is_for_its_owner_alone(what: str, tmp_path: Path) -> None:
    path = tmp_path / "log.1"
    before = os.umask(0)
    try:
        WRITERS[what](path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_picture_of_a_graph_is_for_whom_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_whole(tmp_path / "graph.svg", "<svg/>", public=True)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "graph.svg").stat().st_mode) == 0o644


def test_a_log_that_others_could_read_is_closed_to_them_when_it_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"before ")
    path.chmod(0o666)
    with append_private(path) as log:
        log.write(b"after")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"before after", 0o600)


def test_a_link_in_the_place_of_a_new_file_is_replaced_and_what_it_leads_to_is_left_alone(tmp_path: Path) -> None:
    other, path = tmp_path / "other", tmp_path / "new"
    other.write_bytes(b"other")
    path.symlink_to(other)
    with create_private(path) as file:
        file.write(b"new")
    assert (other.read_bytes(), path.read_bytes(), path.is_symlink()) == (b"other", b"new", False)


def test_nothing_is_added_to_a_link_or_a_pipe(tmp_path: Path) -> None:
    link, pipe = tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(tmp_path / "other")
    os.mkfifo(pipe)
    for path in (link, pipe):
        with pytest.raises(OSError, match=r"symbolic links|no regular file"):
            append_private(path)


def riddles(source: str) -> list[int]:
    """Lines on which a docstring, comment or message with one of RIDDLES begins; single words are data, not prose."""
    texts = [
        (node.lineno, node.value)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value
    ]
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    texts += [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]
    return sorted(line for line, text in texts if RIDDLES.search(text))


@pytest.mark.parametrize("room", ["pipeline", "models", "transports", "stages", "deploy", "thalweg"])
def test_sentences_of_the_code_name_their_subject(room: str) -> None:
    found = [
        f"{path.relative_to(ROOT).as_posix()}:{line}"
        for path in sorted((ROOT / room).rglob("*.py"))
        for line in riddles(path.read_text(encoding="utf-8"))
    ]
    assert found == [], "name the caller, consumer, producer, peer or visitor; say no, never, indefinitely, ignored"


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ('"""Whoever asks."""', [1]),
        ('x = 1\n"""Kept for\never."""', [2]),
        ("x = 1  # nobody waits", [1]),
        ("say(f'{name}: nobody may be asked')", [1]),
        ("NOBODY = 'nobody'", []),
        ("x = 1  # the caller waits", []),
    ],
)
def test_a_sentence_without_a_subject_is_found(source: str, lines: list[int]) -> None:
    assert riddles(source) == lines
