"""`thalweg transcribe`: recordings in, transcripts out, as fast as they can be read."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from thalweg.deploy.transcripts.forms import FORMS
from thalweg.deploy.transcripts.journal import Journal
from thalweg.deploy.transcripts.listening import MOST_LANES, ListeningResult, Recogniser, listen
from thalweg.deploy.transcripts.progress import clock
from thalweg.deploy.transcripts.targets import Task, tasks
from thalweg.deploy.transcripts.utterance import Utterance
from thalweg.models.speech.loading import recognisers
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.file.catalog import find_stage
from thalweg.pipeline.file.values import Given, fit
from thalweg.pipeline.graph import GraphError, nearest
from thalweg.pipeline.payload import Speech, Transcript
from thalweg.pipeline.stage import StageInfo
from thalweg.stages.io.reading import STANDARD_INPUT, comes_by_pipe
from thalweg.stages.io.terminal import READER_GONE, say, say_json
from thalweg.stages.io.whole import WholeFile

INTERRUPTED = 130
_MOST_WORKERS = 4
_NO_GUESSES = {"interval": 3_600_000_000_000, "trial_after": 0}
"""Parameters that make recognisers decode final texts only, where they have them: partial results are not shown."""


@dataclass(frozen=True, slots=True)
class Wish:
    """How transcripts are wanted. `to`: files and endings, printed where there are none; see `targets.tasks`."""

    to: tuple[Path, ...] = ()
    as_json: bool = False
    by_word: bool = False
    overwrite: bool = False
    language: str = ""
    translate: bool = False


def transcribe_files(files: Sequence[Path], engine: str, wish: Wish, settings: Mapping[str, str]) -> int:
    """Transcribe each recording; returns 1 where one could not be, or not whole.

    Raises StageError on an unknown engine, GraphError on settings that it does not take and files that are not there,
    TargetError and SinkError on files that could not be written: all before anything is begun.
    """
    info = find_stage(f"speech.{engine}")
    if [port.type for port in info.inputs.values()] != [Speech]:
        raise GraphError(f"{info.use} is not a recogniser: it does not take speech")
    wished = _wished(info, wish, settings)
    recogniser = _recogniser(info, wished, quiet=bool(wish.to))
    work = tasks(files, wish.to)
    for task in work:
        if not (task.recording == STANDARD_INPUT or comes_by_pipe(task.recording) or task.recording.is_file()):
            raise GraphError(f"{task.recording} does not exist")
    failed = False
    for task in work:
        if len(work) > 1 and not wish.to and not wish.as_json:
            say(f"{task.recording}:")
        try:
            heard = _written(task, recogniser, wish, wished) if task.targets else _printed(task, recogniser, wish)
        except KeyboardInterrupt:
            return INTERRUPTED
        except ThalwegError as error:
            heard = ListeningResult(failures=[str(error)])
        if heard.abandoned:
            return READER_GONE
        for problem in (*heard.complaints, *heard.failures):
            say(f"error: {problem}", err=True)
        failed = failed or bool(heard.complaints or heard.failures)
    return int(failed)


def _recogniser(info: StageInfo, wished: Mapping[str, str], *, quiet: bool) -> Recogniser:
    """Several lanes and all processors where lanes decode together (`batches`) and only final texts are wanted."""
    parameters = _parameters(info, wished, quiet=quiet)
    if not quiet or not getattr(info.cls, "batches", False):
        return Recogniser(info, parameters)
    at_once = {"workers": min(_MOST_WORKERS, os.cpu_count() or 1)} | parameters
    return Recogniser(info, at_once, MOST_LANES)


def _printed(task: Task, recogniser: Recogniser, wish: Wish) -> ListeningResult:
    """Partial and final transcripts as they come."""

    def show(text: str, final: bool, at_s: float, plain: Mapping[str, Any]) -> None:
        if wish.as_json:
            about = {"file": str(task.recording), "time_s": at_s, "final": final, "text": text}
            say_json(about | {"words": plain.get("words", [])})
        else:
            say(f"{at_s:9.2f} s  {'final  ' if final else 'partial'}  {text}")

    def partial(transcript: Transcript, at_s: float) -> None:
        show(transcript.text, False, at_s, {})

    def final(utterance: Utterance, samples: int, at_s: float) -> None:
        show(utterance.text, True, at_s, utterance.as_json())

    heard = listen(task.recording, recogniser, on_partial=partial, on_final=final)
    if not (heard.turns or heard.complaints or heard.failures or heard.abandoned or wish.as_json):
        say("no speech found")
    return heard


def _written(task: Task, recogniser: Recogniser, wish: Wish, wished: Mapping[str, str]) -> ListeningResult:
    """Files that are there whole at the end; what was done of one that is not is kept for the next time."""
    names = ", ".join(map(str, task.targets))
    if task.is_done and not wish.overwrite:
        say(f"{names}: there already, and no older than {task.recording}; --overwrite writes it anew", err=True)
        return ListeningResult()
    live = task.recording == STANDARD_INPUT or comes_by_pipe(task.recording)
    first = task.targets[0]
    about = {"file": str(task.recording), "engine": recogniser.info.use, "settings": dict(wished)}
    began_s = time.monotonic()
    journal = Journal(first.with_name(f".{first.name}.journal"), about | _state(task.recording, live))
    kept = False
    try:
        if journal.count:
            at = clock(journal.samples / 16_000)
            say(f"{task.recording}: going on at {at}, after {journal.count} utterances of an earlier time", err=True)

        def final(utterance: Utterance, samples: int, at_s: float) -> None:
            if utterance.text.strip():
                journal.add(utterance, samples)

        name = task.recording.name if not live else "standard input"
        heard = listen(task.recording, recogniser, samples=journal.samples, on_final=final, progress=name)
        if heard.failures or heard.abandoned:
            return heard
        _write(task, journal, about | {"duration_s": round(heard.at_s, 3)}, wish.by_word)
        kept = True
        took = clock(time.monotonic() - began_s)
        say(f"{names}: {journal.count} utterances, {clock(heard.at_s)} in {took}")
        return heard
    finally:
        if kept or live or not journal.count:
            journal.remove()
        else:
            say(f"{names}: not written yet; the same command goes on at {clock(journal.samples / 16_000)}", err=True)
            journal.close()


def _write(task: Task, journal: Journal, about: Mapping[str, Any], by_word: bool) -> None:
    """All of them or, where one cannot be written, none."""
    wholes: list[WholeFile] = []
    try:
        for target in task.targets:
            whole = WholeFile(target)
            wholes.append(whole)
            form = FORMS[(target.suffix or target.name).lower()]
            for line in form(journal.utterances(), about, by_word):
                whole.attempt(lambda line=line, whole=whole: whole.file.write(line.encode()))  # type: ignore[misc]
        for whole in wholes:
            whole.keep()
    finally:
        for whole in wholes:
            whole.discard()


def _state(recording: Path, live: bool) -> dict[str, int]:
    """Which state of a file it is."""
    if live:
        return {}
    status = recording.stat()
    return {"bytes": status.st_size, "modified_ns": status.st_mtime_ns}


def _wished(info: StageInfo, wish: Wish, settings: Mapping[str, str]) -> dict[str, str]:
    """Settings with those that have options of their own. Raises GraphError where the engine has no such thing."""
    found = dict(settings)
    for option, name, value in (("--language", "language", wish.language), ("--translate", "task", "translate")):
        if (option == "--language" and not wish.language) or (option == "--translate" and not wish.translate):
            continue
        if name not in info.parameters.model_fields:
            raise GraphError(f"{info.use} takes no {option}: another engine does, as --engine whisper")
        if name in found:
            raise GraphError(f"{option} and --set {name}={found[name]} say the same thing: leave one of them out")
        found[name] = value
    return found


def _parameters(info: StageInfo, settings: Mapping[str, str], *, quiet: bool) -> dict[str, Any]:
    known = list(info.parameters.model_fields)
    for name in settings:
        if name not in known:
            raise GraphError(f"{info.use} has no parameter {name!r}{nearest(name, known)}, it takes {', '.join(known)}")
    try:
        given = {name: Given(value) for name, value in settings.items()}
        checked = info.check(fit(info, given, lambda path: None))
    except ValidationError as error:
        missing = [str(wrong["loc"][0]) for wrong in error.errors() if wrong["type"] == "missing"]
        if missing:
            example = f"{missing[0]}={recognisers()[0] if missing[0] == 'model' and recognisers() else '…'}"
            raise GraphError(f"{info.use} needs {' and '.join(missing)}, as in --set {example}") from None
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise GraphError(f"{info.use}: {wrong}") from None
    return ({name: value for name, value in _NO_GUESSES.items() if name in known} if quiet else {}) | checked
