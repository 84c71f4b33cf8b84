"""Where the systems are that ours is tried beside: `make bench-peers` installs each in an environment of its own."""

from __future__ import annotations

import os
from pathlib import Path

from tests.deploy.fleet.processes import ROOT


def installed(peer: str, program: str) -> Path:
    """A program of a peer; it need not be there."""
    return Path(os.environ.get("THALWEG_PEERS", ROOT / ".peers")) / peer / "bin" / program
