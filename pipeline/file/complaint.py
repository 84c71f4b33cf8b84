"""What is wrong with the parameters of a stage, in a sentence, from a file or from Python."""

from __future__ import annotations

from typing import Any

from thalweg.pipeline.stage import StageInfo
from thalweg.pipeline.suggestion import nearest


def complaint(name: str, info: StageInfo, problem: Any) -> str:  # Any: pydantic's ErrorDetails
    """One problem of the stage `name`, which uses `info`."""
    key = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        known = list(info.parameters.model_fields)
        have = f"it takes {', '.join(known)}" if known else "it takes none"
        return f"stage {info.use} has no parameter {key!r}{nearest(key, known)}, {have}"
    if problem["type"] == "missing":
        return f"stage {name!r} needs `{key}`"
    said, given = problem["msg"].removeprefix("Value error, "), repr(problem["input"])
    return f"{key}: {said}" if given in said else f"{key}: {said}, found {given}"
