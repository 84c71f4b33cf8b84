"""A pipeline as the text of a file."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any

import yaml

from thalweg.pipeline.errors import ThalwegError


class DumpError(ThalwegError):
    """A pipeline that cannot be written as a file: something in it is no plain value."""


def dump_document(document: Mapping[str, Any]) -> str:
    """The YAML text that reads as `document`; `${` in its texts is escaped. Raises DumpError, naming the value."""
    return yaml.safe_dump(_plain(document, ""), sort_keys=False, allow_unicode=True, width=120)


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, bool | int | float) or value is None:
        return value
    if isinstance(value, str):
        return value.replace("${", "$${")
    if isinstance(value, PurePath):
        return _plain(str(value), where)
    if isinstance(value, Enum):
        return _plain(value.value, where)
    if isinstance(value, Mapping):
        return {str(key): _plain(inner, f"{where}.{key}" if where else str(key)) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner, f"{where}[{i}]") for i, inner in enumerate(value)]
    raise DumpError(
        f"{where} is a {type(value).__name__}, which a pipeline file cannot say: "
        "expected text, numbers, lists and mappings of those"
    )
