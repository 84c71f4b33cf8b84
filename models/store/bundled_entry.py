"""`python -m thalweg.models.store.bundled_entry FOLDER`: the registry entry of a model that comes with the package.

FOLDER lies below `models/`; its files are listed with size and hash, the model card (CARD.md) left out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from thalweg.models.store.registry import BUNDLED
from thalweg.models.store.store import sha256

_CARD = "CARD.md"


def entry(folder: Path, within: str = "weights") -> Iterator[str]:
    """Its lines. `within`: the folder below `models/` that `folder` lies in."""
    yield f"{folder.name}:"
    yield "  summary: ..."
    yield "  licence: ..."
    yield "  files:"
    for path in sorted(folder.iterdir()):
        if path.name != _CARD:
            said = f"size: {path.stat().st_size}, sha256: {sha256(path)}, sources: [{BUNDLED}: {within}/{folder.name}]"
            yield f"    {path.name}: {{{said}}}"


if __name__ == "__main__":
    print("\n".join(entry(Path(sys.argv[1]).resolve())))
