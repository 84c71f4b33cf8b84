"""An ear that cannot be made in one process: as a model that one machine lacks."""

from __future__ import annotations

import os
from pathlib import Path

from thalweg.deploy.bench.dialogue.scripted import Ear


class ScarceEar(Ear):
    def __init__(self, missing: str) -> None:
        path = Path(missing)
        if path.exists() and path.read_text(encoding="utf-8") == str(os.getpid()):
            raise RuntimeError("there is no model here")
