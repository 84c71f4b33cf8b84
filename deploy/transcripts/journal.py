"""What was transcribed so far, beside the file that it will be: who begins again goes on after the last utterance."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from thalweg.deploy.transcripts.utterance import Utterance
from thalweg.stages.io.private import append_private
from thalweg.stages.io.whole import SinkError


class Journal:
    """Utterances of one recording as they come, each on disk when `add` returns; for one process at a time.

    `about`: what the text depends on: the recording, the recogniser and its settings. What another one left is thrown
    away, and what is damaged is so from there on. `samples`: up to where it is done. Raises SinkError where it cannot
    be written, and where another process writes it.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.samples = 0
        self.count = 0
        self.path = path
        try:
            self._file = append_private(path)
        except OSError as error:
            raise SinkError(f"cannot write beside {path.parent / path.name[1:]}: {error.strerror}") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise SinkError(
                f"{path} is being written by another `thalweg transcribe`: wait for it, or end it"
            ) from None
        self._begin(json.loads(json.dumps(about)))

    def add(self, utterance: Utterance, samples: int) -> None:
        """Keep an utterance; with it the recording is done up to `samples`."""
        self._write({"samples": samples} | utterance.as_json())
        self.samples = samples
        self.count += 1

    def utterances(self) -> Iterator[Utterance]:
        """All of them, in order, read one by one."""
        with self.path.open("rb") as file:
            next(file)
            for line in file:
                yield Utterance.from_json(json.loads(line))

    def close(self) -> None:
        """Leave it for the next time. Idempotent."""
        self._file.close()

    def remove(self) -> None:
        """It has become a file. Idempotent."""
        self.path.unlink(missing_ok=True)
        self.close()

    def _begin(self, about: Mapping[str, Any]) -> None:
        good = 0
        self._file.seek(0)
        for number, line in enumerate(self._file):
            try:
                found = json.loads(line)
                if not line.endswith(b"\n") or (number == 0 and found != about):
                    break
                if number:
                    Utterance.from_json(found)
                    self.samples, self.count = int(found["samples"]), number
            except (ValueError, KeyError, TypeError):
                break
            good += len(line)
        self._file.truncate(good)
        if not good:
            self._write(about)

    def _write(self, value: Mapping[str, Any]) -> None:
        try:
            self._file.write(json.dumps(value).encode("ascii") + b"\n")
            self._file.flush()
        except OSError as error:
            raise SinkError(f"cannot write {self.path}: {error.strerror}") from None
