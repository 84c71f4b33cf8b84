"""The power goes at random moments, and a start is made from what was on the disk then: `python -m …cut_disk POINTS`.

A process of its own stores events, each forced to the disk before it is acknowledged, and carries out one update after
the other, on an ext4 file system in the image of a loop device. The image is copied while it writes; the copy is
mounted, which replays its journal, and looked at as an agent would that starts from it. What was acknowledged before
the copy began must be there. Needs root, and mkfs.xfs for copies that are of one moment each (`copying`).
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.deploy.fleet.processes import ROOT
from tests.deploy.fleet.updating import carry_out
from thalweg.deploy.fleet import certificates as certs
from thalweg.deploy.fleet.manifest import Artefact, Manifest, sealed
from thalweg.deploy.fleet.node.releases import Releases
from thalweg.pipeline.fleet.rollout import Phase, RolloutEvent, follow
from thalweg.pipeline.fleet.spool_policy import SpoolClass
from thalweg.transports.fleet.segment import records
from thalweg.transports.fleet.spool import Spool

IMAGE_MB = 64
EVENTS_BETWEEN = 5


class Served:
    """What a hub would answer: one release, whose files are made of its generation."""

    def __init__(self, generation: int, key: bytes) -> None:
        self.files = {f"f{n}": bytes([generation % 251, n]) * 5000 for n in range(3)}
        files = tuple(
            Artefact(path=name, sha256=hashlib.sha256(data).hexdigest(), size=len(data))
            for name, data in self.files.items()
        )
        self.sealed = sealed(Manifest(generation=generation, pipeline="f0", files=files, settings={}), key)

    def get(self, path: str, at: int = 0) -> Any:
        """As `HubClient.get`."""
        by_hash = {hashlib.sha256(data).hexdigest(): data for data in self.files.values()}
        answer: Any = Answer(self.sealed if path == "/v1/manifest" else by_hash[path.rpartition("/")[2]][at:])
        answer.status = 206 if at else 200
        return answer


class Answer(io.BytesIO):
    """Bytes with a status."""

    status = 200


def write(folder: Path, key: bytes) -> None:
    """Until it is killed: tells what is on the disk, `event NUMBER` and `release GENERATION`."""
    spool = Spool(folder / "spool", 1, 16 << 20)
    releases = Releases(folder, certs.public_of(key))
    record = releases.load()
    for number in range(1_000_000):
        stored = spool.append(SpoolClass.EVENTS, "event", b"%08d" % number * 25, 1)
        spool.sync(SpoolClass.EVENTS, stored)
        print("event", number, flush=True)
        if number % EVENTS_BETWEEN == 0:
            record = carry_out(releases, record, Served(record.highest + 1, key))
            print("release", record.current, flush=True)


@contextmanager
def copying(folder: Path) -> Iterator[tuple[Path, str]]:
    """A folder for images, and how `cp` copies one there: on XFS as a clone, which is of one moment.

    Without mkfs.xfs, or a kernel that mounts it, it is read while it is written to. Such a copy may have an old list of
    files and a block that another file was given since, which no power cut makes: the slower it is read, the likelier.
    """
    with ExitStack() as stack:
        found = folder, "--sparse=always"
        if shutil.which("mkfs.xfs") is not None:
            outer = folder / "clones.img"
            subprocess.run(["truncate", "-s", "1G", outer], check=True)
            subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", outer], check=True)
            with suppress(subprocess.CalledProcessError):
                found = stack.enter_context(mounted(outer, folder / "clones")), "--reflink=always"
        yield found


@contextmanager
def mounted(image: Path, at: Path) -> Iterator[Path]:
    """A file system in a file. Raises CalledProcessError where it cannot be mounted."""
    at.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop", image, at], check=True, capture_output=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", at], check=True, capture_output=True)


@contextmanager
def cut_off(folder: Path) -> Iterator[tuple[Path, Callable[[], AbstractContextManager[Path]]]]:
    """A disk, and what gives it as a power cut now would leave it: a copy, mounted."""
    with copying(folder) as (images, how):
        image, copy = images / "disk.img", images / "copy.img"
        subprocess.run(["truncate", "-s", f"{IMAGE_MB}M", image], check=True)
        subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)

        def copied() -> AbstractContextManager[Path]:
            copy.unlink(missing_ok=True)
            subprocess.run(["cp", how, image, copy], check=True)
            return mounted(copy, folder / "started")

        with mounted(image, folder / "disk") as disk:
            yield disk, copied


class Written:
    """What the writer has said that is on the disk."""

    def __init__(self) -> None:
        self.event, self.release = -1, 0

    def listen(self, pipe: Any) -> None:
        """To its end."""
        for line in pipe:
            name, _, number = line.partition(" ")
            setattr(self, name, int(number))


@contextmanager
def writing(command: list[str]) -> Iterator[tuple[subprocess.Popen[str], Written]]:
    """A process that stores, and what it has said so far; at least one event. It is killed in the end."""
    writer = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    written = Written()
    listening = threading.Thread(target=written.listen, args=(writer.stdout,))
    listening.start()
    try:
        until(lambda: written.event >= 0, writer)
        yield writer, written
    finally:
        writer.kill()
        writer.wait()
        listening.join()
        assert writer.stdout is not None
        writer.stdout.close()


def until(condition: Callable[[], bool], writer: subprocess.Popen[str]) -> None:
    """It comes to pass, or the writer has ended, which raises AssertionError."""
    while not condition():
        time.sleep(0.01)
        assert writer.poll() is None


def cut(folder: Path, points: int, seed: int = 0) -> tuple[int, int, list[str]]:
    """How many events and releases were acknowledged, and what was wrong with what was started from."""
    chance = random.Random(seed)
    key = certs.make_signing_key()
    (folder / "key").write_bytes(key)
    wrong: list[str] = []
    with cut_off(folder) as (disk, copied):
        command = [sys.executable, "-m", "tests.deploy.fleet.cut_disk", "write", str(disk), str(folder / "key")]
        with writing(command) as (writer, written):
            until(lambda: written.release >= 2, writer)
            for point in range(points):
                time.sleep(chance.uniform(0, 0.05))
                event, release = written.event, written.release
                with copied() as started:
                    releases = release, written.release + 1  # the writer went on until the copy was made
                    wrong += [f"{point}: {each}" for each in look(started, event, releases, certs.public_of(key))]
                assert writer.poll() is None
    return written.event + 1, written.release, wrong


def look(folder: Path, event: int, release: tuple[int, int], public: bytes) -> Iterator[str]:
    """What an agent that starts here would find wrong. `release`: the least and the highest it may start."""
    spool = Spool(folder / "spool", 2, 16 << 20)
    found: Counter[int] = Counter()
    while frames := spool.oldest(1 << 20):
        for record in records(b"".join(frames)):
            if record.stored.stream == "event":
                found[record.stored.number] += 1
                if record.stored.payload != b"%08d" % record.stored.number * 25:
                    yield f"event {record.stored.number} holds something else"
    lost, doubled = set(range(event + 1)) - set(found), [number for number, count in found.items() if count > 1]
    if lost or doubled:
        yield f"{len(lost)} events that were acknowledged are lost, {len(doubled)} are doubled"
    releases = Releases(folder, public)
    record, _ = follow(releases.load(), RolloutEvent.BOOTED)
    if not release[0] <= record.current <= release[1]:
        yield f"release {record.current} is started, one of {release[0]} … {release[1]} was committed last"
    link = folder / "current"
    if record.phase is Phase.RESTING and os.readlink(link) != f"releases/{record.current}":
        yield f"`current` leads to {os.readlink(link)}, not to {record.current}"
    for file in releases.manifest(record.running).files:
        data = (releases.path(record.running) / "files" / file.path).read_bytes()
        if hashlib.sha256(data).hexdigest() != file.sha256:
            yield f"{file.path} of release {record.running} is damaged"


def why_not(folder: Path) -> str:
    """Why no loop device can be mounted here; nothing where it can."""
    image = folder / "probe.img"
    try:
        subprocess.run(["truncate", "-s", "8M", image], check=True, capture_output=True)
        subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True, capture_output=True)
        with mounted(image, folder / "probe"):
            return ""
    except (OSError, subprocess.CalledProcessError) as error:
        return f"loop devices cannot be mounted here (root, /dev/loop*, e2fsprogs): {error}"


def main(arguments: list[str]) -> None:
    """`write FOLDER KEY`, or the number of points."""
    if arguments[:1] == ["write"]:
        write(Path(arguments[1]), Path(arguments[2]).read_bytes())
        return
    import tempfile

    points = int(arguments[0]) if arguments else 200
    with tempfile.TemporaryDirectory() as folder:
        events, releases, wrong = cut(Path(folder), points)
    print(f"{points} cuts, {events} events and {releases} releases acknowledged in all; wrong: {len(wrong)}")
    print(*wrong, sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
