"""Pulling a public checkpoint, from a hub on this machine that answers as the real one does."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from thalweg.models.errors import ModelError
from thalweg.models.store.fetching.hub import checkpoints, local_checkpoint, pinned, pull_checkpoint

NAME = "nvidia/stt_en_fastconformer_hybrid_large_streaming_80ms"
CONTENT = b"not really an archive" * 10_000


class Hub(ThreadingHTTPServer):
    """Redirects to a store, stating size and hash beside the redirection."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.stated: str | None = hashlib.sha256(CONTENT).hexdigest()
        self.tokens: list[str | None] = []
        self.store = "/store"
        self.stored: list[str | None] = []


class Handler(BaseHTTPRequestHandler):
    def _answer(self, body: bool) -> None:
        hub = self.server
        assert isinstance(hub, Hub)
        if self.path == "/store":
            hub.stored.append(self.headers["Authorization"])
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            if body:
                self.wfile.write(CONTENT)
            return
        hub.tokens.append(self.headers["Authorization"])
        expected = f"/{NAME}/resolve/main/{NAME.partition('/')[2]}.nemo"
        self.send_response(302 if self.path == expected else 404)
        self.send_header("Location", hub.store)
        if hub.stated:
            self.send_header("X-Linked-Etag", f'"{hub.stated}"')
            self.send_header("X-Linked-Size", str(len(CONTENT)))
        self.end_headers()

    def do_HEAD(self) -> None:
        self._answer(False)

    def do_GET(self) -> None:
        self._answer(True)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as running:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{running.server_address[1]}")
        monkeypatch.delenv("HF_TOKEN", raising=False)
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def ignore(done: int, total: int) -> None:
    """Show no progress."""


def test_a_checkpoint_comes_whole_and_once(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    path = pull_checkpoint(NAME, ignore, tmp_path)
    assert path == local_checkpoint(NAME, tmp_path)
    assert path.read_bytes() == CONTENT
    asked = len(hub.tokens)
    assert set(hub.tokens) == {"Bearer secret"}
    assert pull_checkpoint(NAME, ignore, tmp_path) == path
    assert len(hub.tokens) == asked


def test_no_proxy_is_told_the_token_for_a_hub_on_this_machine(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert pull_checkpoint(NAME, ignore, tmp_path).read_bytes() == CONTENT


def test_where_the_hub_sends_us_does_not_learn_the_token(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    hub.store = f"http://localhost:{hub.server_address[1]}/store"
    assert pull_checkpoint(NAME, ignore, tmp_path).read_bytes() == CONTENT
    assert hub.stored == [None]


def test_a_checkpoint_that_is_pinned_by_its_hash_is_that_or_none(hub: Hub, tmp_path: Path) -> None:
    wrong, right = f"{NAME}#{'0' * 64}", f"{NAME}#{hashlib.sha256(CONTENT).hexdigest()}"
    with pytest.raises(ModelError, match="another file than was pinned"):
        pull_checkpoint(wrong, ignore, tmp_path)
    path = pull_checkpoint(right, ignore, tmp_path)
    assert pinned(NAME, tmp_path) == right
    with pytest.raises(ModelError, match="another file than was pinned"):
        pull_checkpoint(wrong, ignore, tmp_path)
    path.write_bytes(b"changed")
    with pytest.raises(ModelError, match="another file than was pinned"):
        pull_checkpoint(right, ignore, tmp_path)


def test_a_checkpoint_of_one_commit_is_asked_for_at_that(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"/resolve/0a1b2c/.* answered 404"):
        pull_checkpoint(f"{NAME}@0a1b2c", ignore, tmp_path)


@pytest.mark.parametrize("name", [f"{NAME}@../../x", f"{NAME}#12", f"{NAME}@a b", f"{NAME}@@x", "", "@x"])
def test_what_names_no_checkpoint_is_refused_before_anybody_is_asked(name: str, hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="names no checkpoint"):
        pull_checkpoint(name, ignore, tmp_path)
    assert not hub.tokens


def test_the_token_is_not_sent_in_clear_to_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.example")
    with pytest.raises(ModelError, match=r"not sent to http://hub\.example in clear"):
        pull_checkpoint(NAME, ignore, tmp_path)


@pytest.mark.parametrize("stated", ["²" * 64, "z" * 64, "x"])
def test_a_hash_that_is_none_is_refused(stated: str, hub: Hub, tmp_path: Path) -> None:
    hub.stated = stated.encode("utf-8").decode("latin-1")
    with pytest.raises(ModelError, match="states no SHA-256"):
        pull_checkpoint(NAME, ignore, tmp_path)


def test_an_address_without_a_scheme_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "hub.example")
    with pytest.raises(ModelError, match=r"HF_ENDPOINT is .*, expected an address"):
        pull_checkpoint(NAME, ignore, tmp_path)


def test_another_file_than_the_hub_states_is_not_kept(hub: Hub, tmp_path: Path) -> None:
    hub.stated = "0" * 64
    with pytest.raises(ModelError, match="gave another file than the hub states"):
        pull_checkpoint(NAME, ignore, tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_a_hub_that_states_no_hash_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.stated = None
    with pytest.raises(ModelError, match="states no SHA-256"):
        pull_checkpoint(NAME, ignore, tmp_path)


def test_what_is_not_there_and_what_is_not_known_are_clear(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="answered 404"):
        pull_checkpoint("nvidia/nemotron-speech-streaming-en-0.6b", ignore, tmp_path)
    with pytest.raises(ModelError, match="no checkpoint 'nvidia/other' is known here; there are nvidia/"):
        pull_checkpoint("nvidia/other", ignore, tmp_path)


def test_every_listed_checkpoint_names_its_licence() -> None:
    assert checkpoints()
    assert all(checkpoint.licence and checkpoint.file.endswith(".nemo") for checkpoint in checkpoints().values())
