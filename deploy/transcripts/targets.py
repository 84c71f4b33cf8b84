"""Which recordings are meant, and where their transcripts go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from thalweg.deploy.transcripts.forms import FORMS
from thalweg.pipeline.errors import ThalwegError
from thalweg.stages.io.reading import STANDARD_INPUT, comes_by_pipe
from thalweg.stages.io.whole import SinkError

_SOUND = "aac ac3 aif aiff alac amr ape au caf dts flac m4a m4b mka mp2 mp3 oga ogg opus ra rf64 spx tta w64 wav wma wv"
_VIDEO = "3gp avi flv m4v mkv mov mp4 mpeg mpg mts ogv ts vob webm wmv"
RECORDINGS = frozenset(f".{ending}" for ending in f"{_SOUND} {_VIDEO}".split())
"""Suffixes of files that are taken from a folder. A file named explicitly may have any suffix."""


class TargetError(ThalwegError):
    """Recordings that are not there, or transcripts that could not be told apart."""


@dataclass(frozen=True, slots=True)
class Task:
    """One recording, and the files its transcript is written to; none: it is printed."""

    recording: Path
    targets: tuple[Path, ...]

    @property
    def is_done(self) -> bool:
        """Whether every target is there, and none older than the recording."""
        try:
            made = self.recording.stat().st_mtime_ns
            return bool(self.targets) and all(target.stat().st_mtime_ns >= made for target in self.targets)
        except OSError:
            return False


def recordings(given: Sequence[Path]) -> list[Path]:
    """The files that are meant by names of files, folders and pipes, each once. Raises TargetError."""
    found: dict[Path, None] = {}
    for path in given:
        if path == STANDARD_INPUT or comes_by_pipe(path):
            found[path] = None
        elif path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in RECORDINGS and file.is_file())
            inside = [file for file in inside if not any(part.startswith(".") for part in file.relative_to(path).parts)]
            if not inside:
                raise TargetError(
                    f"{path} holds no recordings: expected files that end in .wav, .mp3, .mp4 or the like"
                )
            found |= dict.fromkeys(inside)
        else:
            found[path] = None
    return list(found)


def tasks(given: Sequence[Path], to: Sequence[Path]) -> list[Task]:
    """Every recording with its targets. Of `to`: a file of a form that is known, for one recording; a bare suffix, as
    `.srt` or `FOLDER/.srt`, for one beside each, or in the folder. Raises TargetError and SinkError.
    """
    found = recordings(given)
    for path in to:
        if path.suffix.lower() not in FORMS and path.name.lower() not in FORMS:
            raise TargetError(f"--to {path}: expected a name that ends in {', '.join(FORMS)}, or such an ending alone")
        if path.suffix and len(found) > 1:
            raise TargetError(
                f"--to {path} is one file, and there are {len(found)} recordings: "
                f"--to {path.with_name(path.suffix)} writes one for each"
            )
    made = [Task(recording, tuple(_target(recording, path, found) for path in to)) for recording in found]
    for target, count in Counter(target for task in made for target in task.targets).items():
        if count > 1:
            raise TargetError(f"{count} transcripts would be written to {target}: give them folders of their own")
        _check(target)
    return made


def _target(recording: Path, path: Path, all_of_them: Sequence[Path]) -> Path:
    if path.suffix:
        return path
    if recording == STANDARD_INPUT or comes_by_pipe(recording):
        example = path.with_name(f"NAME{path.name}")
        raise TargetError(f"--to {path}: what comes by pipe has no name; give one, as in --to {example}")
    folder = recording.parent if path.parent == Path() else path.parent
    twins = [other for other in all_of_them if other.with_suffix("") == recording.with_suffix("")]
    return folder / ((recording.name if len(twins) > 1 else recording.stem) + path.name)


def _check(target: Path) -> None:
    if target.exists() and not target.is_file():
        raise SinkError(f"cannot write {target}: it is a folder or a device, and would be replaced by a file")
    if not target.parent.is_dir():
        raise SinkError(f"cannot write {target}: there is no folder {target.parent}")
