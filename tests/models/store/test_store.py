"""The model store: whole files or none, the right ones or none, and no network where none is needed."""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from thalweg.models import Model, ModelError, ModelFile, ModelStore, Registry, Source
from thalweg.models.store.fetching.download import download

CONTENT = bytes(range(256)) * 4096


class Server(ThreadingHTTPServer):
    """Serves CONTENT with ranges; breaks off after `cut` bytes where that is set. Remembers the ranges asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.cut: int | None = None
        self.asked: list[str | None] = []
        self.content = CONTENT
        self.endless = False
        self.hung_up = threading.Event()
        self.begins: int | None = None
        self.piece: int | None = None
        self.drop_s = 0.0
        self.elsewhere = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/model.bin"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        wanted = self.headers["Range"]
        if server.elsewhere and self.path != server.elsewhere:
            self.send_response(302)
            self.send_header("Location", server.elsewhere)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        server.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        self.send_response(206 if wanted else 200)
        if not server.endless:
            self.send_header("Content-Length", str(len(server.content) - start))
        if server.begins is not None:
            self.send_header("Content-Range", f"bytes {server.begins}-{len(CONTENT)}/{len(CONTENT)}")
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            while server.drop_s and not server.hung_up.wait(server.drop_s):
                self.wfile.write(b"x")
        with contextlib.suppress(ConnectionError):
            while server.endless and not server.hung_up.is_set():
                self.wfile.write(bytes(1 << 16))
            self.wfile.write(server.content[start : server.cut if server.piece is None else start + server.piece])

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def store(folder: Path, *sources: Source) -> ModelStore:
    digest = hashlib.sha256(CONTENT).hexdigest()
    file = ModelFile(name="model.bin", size=len(CONTENT), sha256=digest, sources=sources)
    model = Model(name="tiny", summary="for tests", licence="CC0-1.0", files=(file,))
    return ModelStore(folder, Registry({"tiny": model}))


def test_a_model_is_fetched_once_and_then_found(tmp_path: Path, server: Server) -> None:
    models = store(tmp_path, Source("url", server.url))
    assert [models.path("tiny").read_bytes(), models.path("tiny").read_bytes()] == [CONTENT, CONTENT]
    assert len(server.asked) == 1


def test_a_download_that_broke_off_goes_on_where_it_was(tmp_path: Path, server: Server) -> None:
    models = store(tmp_path, Source("url", server.url))
    server.cut = 500_000
    with pytest.raises(ModelError):
        models.path("tiny")
    server.cut = None
    assert models.path("tiny").read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=500000-"


def test_a_server_that_sends_another_part_than_was_asked_for_is_refused_and_the_next_one_begins_anew(
    tmp_path: Path, server: Server
) -> None:
    models = store(tmp_path, Source("url", server.url))
    server.cut = 500_000
    with pytest.raises(ModelError):
        models.path("tiny")
    server.cut, server.begins = None, 100
    with pytest.raises(ModelError, match="sends another part than it was asked for"):
        models.path("tiny")
    server.begins = None
    assert models.path("tiny").read_bytes() == CONTENT
    assert server.asked[-1] is None


def test_a_server_that_sends_drops_is_given_up(tmp_path: Path, server: Server) -> None:
    server.drop_s = 0.01
    with pytest.raises(ModelError, match="sends less than 1000 bytes a second; the next attempt goes on from byte"):
        download(server.url, tmp_path / "x", None, lambda have, total: None, timeout_s=1.5)
    server.hung_up.set()


def test_a_server_that_breaks_off_again_and_again_is_not_asked_for_every_byte(tmp_path: Path, server: Server) -> None:
    server.piece = 1
    with pytest.raises(ModelError, match="broke off after 101 of"):
        store(tmp_path, Source("url", server.url)).path("tiny")
    assert len(server.asked) == 101


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_no_proxy_stands_between_us_and_a_source_on_this_machine(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for other in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert store(tmp_path, Source("url", server.url)).path("tiny").read_bytes() == CONTENT


def test_where_a_source_on_this_machine_sends_us_elsewhere_we_go_there_by_the_proxy(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.elsewhere = "http://files.example/model.bin"
    monkeypatch.setenv("http_proxy", server.url.removesuffix("/model.bin"))
    assert store(tmp_path, Source("url", server.url)).path("tiny").read_bytes() == CONTENT


def test_a_file_with_another_hash_is_refused_and_not_kept(tmp_path: Path, server: Server) -> None:
    server.content = CONTENT[::-1]
    with pytest.raises(ModelError, match="gave another file"):
        store(tmp_path, Source("url", server.url)).path("tiny")
    assert not list(tmp_path.rglob("*.bin*.part"))
    assert not list(tmp_path.rglob("model.bin"))


@pytest.mark.parametrize("parts", [1, 2])
def test_a_source_that_sends_without_end_is_hung_up_on_and_leaves_nothing(
    tmp_path: Path, server: Server, parts: int
) -> None:
    server.endless = True
    timer = threading.Timer(10.0, server.hung_up.set)
    timer.start()
    with pytest.raises(ModelError, match="sends more than the"):
        store(tmp_path, Source("url", server.url, (server.url,) * (parts - 1))).path("tiny")
    assert not server.hung_up.is_set()
    timer.cancel()
    assert sum(path.stat().st_size for path in tmp_path.rglob("*")) < 10_000


def test_sources_are_tried_in_order(tmp_path: Path, server: Server) -> None:
    missing = Source("path", str(tmp_path / "nowhere"))
    assert store(tmp_path / "cache", missing, Source("url", server.url)).path("tiny").read_bytes() == CONTENT


@pytest.mark.real
def test_no_source_says_what_was_tried_and_what_to_do(tmp_path: Path) -> None:
    models = store(tmp_path / "cache", Source("path", "/nowhere/a"), Source("url", "http://127.0.0.1:9/b"))
    with pytest.raises(ModelError, match=r"/nowhere/a does not exist; .*:9/b cannot be reached.*put the file at"):
        models.path("tiny")


def test_an_unknown_model_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no model 'tinny'; did you mean 'tiny'"):
        store(tmp_path).path("tinny")


def test_a_file_that_changed_is_found_by_verify(tmp_path: Path, server: Server) -> None:
    models = store(tmp_path, Source("url", server.url))
    models.path("tiny").write_bytes(b"changed")
    (problem,) = models.verify("tiny")
    assert "has changed: delete it" in problem


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path, server: Server) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(ModelError, match="cannot write model tiny under"):
        store(tmp_path / "cache", Source("url", server.url)).path("tiny")


def _pull(folder: Path, url: str) -> bytes:
    return store(folder, Source("url", url)).path("tiny").read_bytes()


def test_two_processes_at_once_fetch_it_once(tmp_path: Path, server: Server) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        results = pool.starmap(_pull, [(tmp_path, server.url)] * 2)
    assert results == [CONTENT, CONTENT]
    assert len(server.asked) == 1


def test_the_built_in_registry_is_well_formed() -> None:
    for model in Registry.load().models.values():
        assert model.licence
        assert all(len(file.sha256) == 64 and file.sources for file in model.files)
