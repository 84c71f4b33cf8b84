"""What differs between the versions of PyAV that we allow."""

from __future__ import annotations

from typing import Any


def tolerant() -> dict[str, Any]:
    """How `av.open` is told that names in a file may be no valid text. From 19 on it needs no telling."""
    import av

    return {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
