"""How a conversation host is reached, and what it has to be for a front to send people there."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from thalweg.models.store.bounded import read_text_at_most
from thalweg.pipeline.errors import ThalwegError
from thalweg.stages.io.private import create_private

PROTOCOL = 1
"""Goes up when a front and a host of another number would misunderstand each other."""
NAME = r"[a-z0-9][a-z0-9-]{0,59}"
SUFFIX = ".host.json"
MOST_BYTES = 16_000


class HostError(ThalwegError):
    """A conversation host that cannot be started, or does not answer as one."""


class HostRecord(BaseModel):
    """`url`: `unix:PATH`, or `https://HOST:PORT` with the authority (PEM) that signed for it. `token`: opens it.

    `pipeline`: which pipeline file it serves, with which settings, as a digest. `zone`: where it is, see `placing.py`.
    """

    model_config = ConfigDict(frozen=True)
    name: str = Field(pattern=f"^{NAME}$")
    url: str = Field(pattern=r"^(unix:/.{1,200}|https://.{1,200})$")
    token: str = Field(min_length=32, max_length=200, repr=False)
    authority: str = Field(default="", max_length=10_000)
    version: str = Field(max_length=50)
    protocol: int
    pipeline: str = Field(max_length=100)
    pid: int = 0
    zone: str = Field(default="", max_length=100)

    def keep(self, folder: Path) -> None:
        """Write it where a front of this machine looks: for its owner alone."""
        target = folder / f"{self.name}{SUFFIX}"
        beside = target.with_suffix(".new")
        with create_private(beside) as file:
            file.write(self.model_dump_json().encode())
        os.replace(beside, target)

    @classmethod
    def read(cls, plain: object) -> Self:
        """One that a host told. Raises HostError, without saying what stands in it."""
        try:
            return cls.model_validate(plain)
        except ValidationError as error:
            where = ".".join(map(str, error.errors(include_input=False, include_url=False)[0]["loc"]))
            raise HostError(f"that is no conversation host of this version: its {where} is not as expected") from None


def records_in(folder: Path) -> Iterator[HostRecord]:
    """The hosts that have written themselves down; what is no record is left out."""
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            record = HostRecord.read(json.loads(read_text_at_most(path, MOST_BYTES)))
        except (OSError, ValueError, HostError):
            continue
        if path.name == f"{record.name}{SUFFIX}" and re.fullmatch(NAME, record.name):
            yield record
