"""Where the systems are that ours is tried beside: `make test-peers` installs each in an environment of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.deploy.fleet.processes import ROOT


def installed(peer: str, program: str) -> Path:
    """A program of a peer; it need not be there."""
    return Path(os.environ.get("THALWEG_PEERS", ROOT / ".peers")) / peer / "bin" / program


def require_peer(peer: str) -> None:
    """Skip unless it is here; CI does not install it."""
    if not installed(peer, f"{peer}-installed").exists():
        pytest.skip(f"needs: make .peers/{peer}/bin/{peer}-installed")
