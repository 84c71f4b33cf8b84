"""Who lends workers, and what a node shows them: read from the node's folder, so that neither hub nor agent is needed.

The agent writes `lenders.json` as the hub tells it; certificates are those the node works with. Like the hub's, the
certificate of a lender is judged by the latest time that is known to be past, not by the node's clock.
"""

from __future__ import annotations

import json
import logging
import ssl
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from thalweg.deploy.fleet.certificates import NO_CHECK_TIME
from thalweg.models.store.bounded import read_at_most
from thalweg.stages.fleet.agent_link import node_folder

log = logging.getLogger(__name__)

LENDERS: Final = "lenders.json"
MOST_LENDERS = 100
LARGEST = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Lender:
    """One machine that lends. `place`: what pipeline files call it, and others like it. `revoked`: all its rights were
    withdrawn; it has no address.
    """

    place: str
    name: str
    host: str
    port: int
    revoked: bool = False

    @classmethod
    def parse(cls, said: Any) -> Lender:
        """Of a map. Raises KeyError, TypeError, ValueError."""
        found = cls(
            place=str(said["place"]),
            name=str(said["name"]),
            host=str(said["host"]),
            port=int(said["port"]),
            revoked=said.get("revoked", False) is True,
        )
        if not found.revoked and (not found.host or not 0 < found.port < 65536):
            raise ValueError("no address of a lender")
        return found

    def plain(self) -> dict[str, Any]:
        """As a map."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.name} ({self.host}:{self.port})"


class NodeFolder:
    """The folder of the node that this process runs on; None of `here` where it is none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: tuple[int, int] | None = None
        self._lenders: list[Lender] = []

    @classmethod
    def here(cls) -> NodeFolder | None:
        """By the environment in which the agent starts pipelines."""
        folder = node_folder()
        return cls(folder) if folder is not None else None

    def lenders(self) -> list[Lender]:
        """As they were said to be last; what cannot be read changes nothing. Cheap: read anew where it has changed."""
        path = self._folder / LENDERS
        try:
            found = path.stat()
            if self._seen != (found.st_mtime_ns, found.st_ino):
                told = json.loads(read_at_most(path, LARGEST))
                self._lenders = [Lender.parse(each) for each in told[:MOST_LENDERS]]
                self._seen = found.st_mtime_ns, found.st_ino
        except FileNotFoundError:
            self._lenders = []
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s cannot be read: %s", path, error)
        return self._lenders

    def context(self) -> ssl.SSLContext:
        """TLS both ways. Raises OSError where certificates cannot be read."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(self._folder / "authority.pem")
        context.verify_flags |= NO_CHECK_TIME
        context.load_cert_chain(self._folder / "working.pem")
        return context

    def floor_s(self) -> float:
        """The latest time that is known to be past."""
        try:
            return float(read_at_most(self._folder / "floor", LARGEST))
        except (OSError, ValueError):
            return 0.0
