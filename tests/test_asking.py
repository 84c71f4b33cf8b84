"""Other servers are asked by few clients, which verify, bound, and keep secrets: nothing asks around them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ASKS = re.compile(
    r"httpx\.(AsyncClient|Client|get|post|put|stream|request)\(|aiohttp\.(ClientSession|request)\(|\burlopen\("
    r"|\b(build_opener|urlretrieve)\(|\bHTTPS?Connection\b|^\s*(import|from) (requests|urllib3)\b"
)
CLIENTS = {
    "models/http/client.py": "model servers",
    "models/store/fetching/download.py": "files of models, and the hub that they are on",
    "transports/webrtc/signalling.py": "`talk`, `doctor`, and what operators ask of a server",
    "deploy/server/hosts/link.py": "conversation hosts, by the authority that each makes for itself",
    "deploy/fleet/node/asking.py": "the hub of a node, by mutual TLS; nodes need neither aiohttp nor httpx",
}


@pytest.mark.parametrize("room", ["pipeline", "models", "transports", "stages", "deploy"])
def test_servers_are_asked_by_the_clients_that_there_are(room: str) -> None:
    found = set()
    for path in sorted((ROOT / room).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name in CLIENTS or name.startswith("deploy/bench/"):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if ASKS.search(line):
                found.add(f"{name}:{number}")
    assert found == set(), "use thalweg.models.http"
