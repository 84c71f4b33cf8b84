"""The tasks of the multimodal benchmark and their test sets, made on the spot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from thalweg.deploy.bench.senses.runs import Task
from thalweg.models.recipes.avwords.words import WORDS
from thalweg.models.recipes.vehicle.scene import CLASSES, EASY

MANY = 2448
PROFILED = 816

TASKS = (
    Task(
        name="speech",
        model="avwords",
        modalities=("audio", "video"),
        slow="video",
        lag_ms=400,
        unit_ms={"audio": 40, "video": 40},
        choices_ms={"audio": (40, 60, 80), "video": (40, 80, 120)},
        kinds={word.text: "easy" if word.kind.value == "easy" else "hard" for word in WORDS},
        budgets_ms=(60, 80, 100, 150, 200),
    ),
    Task(
        name="vehicle",
        model="vehicle",
        modalities=("camera", "range"),
        slow="range",
        lag_ms=0,
        unit_ms={"camera": 100, "range": 100},
        choices_ms={"camera": (100, 200, 300), "range": (100, 200, 300)},
        kinds={name: "easy" if name in EASY else "hard" for name in CLASSES},
    ),
)


@dataclass(frozen=True, slots=True)
class Packs:
    """Test samples of one condition; more of them, where configurations are compared; others to profile on."""

    test: Path
    many: Path
    profiled: Path


def make_packs(task: Task, folder: Path, count: int, quick: bool) -> dict[str, Packs]:
    """Condition → packs. Raises VoiceError without the synthesizers."""
    from thalweg.models.recipes.avwords.pack import make_pack as make_words
    from thalweg.models.recipes.vehicle.pack import make_pack as make_scenes

    make = make_words if task.name == "speech" else make_scenes
    packs = {}
    for condition in ("clean",) if quick else ("clean", "noisy"):
        test, many, profiled = (folder / f"{task.name}-{condition}-{use}.npz" for use in ("test", "many", "val"))
        make(test, "test", count, condition)
        if task.budgets_ms:
            make(many, "test", 34 if quick else MANY, condition)
            make(profiled, "val", 34 if quick else PROFILED, condition)
        packs[condition] = Packs(test, many, profiled)
    return packs
