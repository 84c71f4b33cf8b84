"""A deployed model against its baselines: word error rates and latencies as a table, every utterance as a row.

Every system hears the same utterances: held-out synthetic voices clean and with noise at 10 dB, and recordings of
people; nothing of them was trained on. Synthetic speech is easier than people: their column is the one to believe.
Rows are written as they are made, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from thalweg.models.errors import ModelError
from thalweg.models.recipes.asr.corpus.augment import noisy
from thalweg.models.recipes.asr.corpus.data import Utterance, human_recordings, read_shard, shards
from thalweg.models.recipes.asr.corpus.text import normalise
from thalweg.models.recipes.asr.measure import Listener, hear, speech_begins_s, word_errors
from thalweg.models.recipes.asr.systems import systems
from thalweg.models.speech.fastconformer.deployed import DESCRIPTION, Deployed
from thalweg.models.store.store import sha256

NOISE_DB = 10.0
_DRAWS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One utterance by one system. `group`: which of the sets it is from; times as `Hearing` has them."""

    system: str
    group: str
    number: int
    voice: str
    said: str
    heard: str
    errors: int
    words: int
    final_ms: float
    first_ms: float | None
    changed: int


@dataclass(frozen=True, slots=True)
class Case:
    """An utterance and where its speech begins."""

    utterance: Utterance
    begin_s: float


def cases(test: Path, human: Path | None, most: int) -> dict[str, list[Case]]:
    """The sets: at most `most` utterances of the shards in `test`, the same with noise, and those of people."""
    rng = np.random.default_rng(0)
    clean = [Case(u, speech_begins_s(u.audio)) for u in _first(test, most)]
    loud = [replace(c, utterance=replace(c.utterance, audio=noisy(c.utterance.audio, NOISE_DB, rng))) for c in clean]
    found = {"held-out voices": clean, f"held-out voices, {NOISE_DB:.0f} dB": loud}
    if human is not None:
        found["people"] = [Case(u, speech_begins_s(u.audio)) for u in human_recordings(human)]
    return found


def measure(model: Deployed, sets: dict[str, list[Case]], into: Path) -> list[Row]:
    """The rows of all systems, those that `into` (JSON lines) already holds included.

    Raises ModelError where `into` is of another model.
    """
    head = {"model": sha256(model.folder / "encoder.onnx"), "config": sha256(model.folder / DESCRIPTION)}
    asked = {(group, number) for group, members in sets.items() for number in range(len(members))}
    kept = _read(into, head)
    rows = [row for row in kept if (row.group, row.number) in asked]
    done = {(row.system, row.group, row.number) for row in rows}
    with into.open("a", encoding="utf-8") as out:
        if not kept and not out.tell():
            print(json.dumps(head), file=out, flush=True)
        for system, start in systems(model):
            for group, members in sets.items():
                for number, case in enumerate(members):
                    if (system, group, number) not in done:
                        rows.append(_row(system, group, number, case, start()))
                        print(json.dumps(asdict(rows[-1]), ensure_ascii=False), file=out, flush=True)
            mine = [row for row in rows if row.system == system]
            print(f"{system}: word error rate {100 * error_rate(mine):.1f} %", file=sys.stderr, flush=True)
    return rows


def error_rate(rows: Sequence[Row]) -> float:
    """Errors of all rows over words of all rows."""
    return sum(row.errors for row in rows) / max(1, sum(row.words for row in rows))


def interval(rows: Sequence[Row]) -> tuple[float, float]:
    """Where 95 % of the error rates lie when as many utterances are drawn from these again and again."""
    counts = np.array([(row.errors, row.words) for row in rows])
    drawn = counts[np.random.default_rng(0).integers(0, len(counts), (_DRAWS, len(counts)))].sum(axis=1)
    low, high = np.percentile(drawn[:, 0] / np.maximum(1, drawn[:, 1]), (2.5, 97.5))
    return float(low), float(high)


def table(rows: Sequence[Row]) -> str:
    """Markdown."""
    groups = list(dict.fromkeys(row.group for row in rows))
    counts = {group: len({row.number for row in rows if row.group == group}) for group in groups}
    title = [f"{group} ({counts[group]})" for group in groups]
    title += ["final p50 / p95 / p99, ms", "first partial, ms", "edits per word"]
    lines = [f"| word error rate, % (95 % interval) | {' | '.join(title)} |", "|---" * (len(title) + 1) + "|"]
    for system in dict.fromkeys(row.system for row in rows):
        mine = [row for row in rows if row.system == system]
        cells = []
        for group in groups:
            part = [row for row in mine if row.group == group]
            low, high = interval(part)
            cells.append(f"{100 * error_rate(part):.1f} ({100 * low:.1f}–{100 * high:.1f})")
        finals = np.percentile([row.final_ms for row in mine], (50, 95, 99))
        cells.append(" / ".join(f"{each:.0f}" for each in finals))
        first = [row.first_ms for row in mine if row.first_ms is not None]
        cells.append(f"{np.median(first):.0f}" if first else "–")
        cells.append(f"{sum(row.changed for row in mine) / max(1, sum(len(row.heard.split()) for row in mine)):.2f}")
        lines.append(f"| {system} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _first(test: Path, most: int) -> list[Utterance]:
    found: list[Utterance] = []
    for path in shards(test):
        found += read_shard(path)[: most - len(found)]
    return found


def _row(system: str, group: str, number: int, case: Case, listener: Listener) -> Row:
    said = case.utterance
    hearing = hear(listener, said.audio, case.begin_s)
    text = normalise(hearing.text)
    errors, words = word_errors(said.text, text)
    return Row(
        system=system,
        group=group,
        number=number,
        voice=said.voice,
        said=said.text,
        heard=text,
        errors=errors,
        words=words,
        final_ms=hearing.final_ms,
        first_ms=hearing.first_ms,
        changed=hearing.changed,
    )


def _read(path: Path, head: dict[str, str]) -> list[Row]:
    """What an earlier run has left; a last line that a kill has cut off is taken out."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    first, *lines = whole.splitlines() or [""]
    if first and json.loads(first) != head:
        raise ModelError(f"{path} holds the rows of another model: name another file")
    return [Row(**json.loads(line)) for line in lines]
