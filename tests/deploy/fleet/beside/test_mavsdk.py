"""An autopilot that is not of our making: MAVSDK's, which is heard, and told what to do."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import require_package
from tests.deploy.fleet.beside.peers import installed, require_peer
from tests.deploy.fleet.commanding import Hub, node
from tests.stages.fleet.test_mavlink import free_udp_port, heard

pytestmark = pytest.mark.real
LATITUDE, LONGITUDE = 47.397742, 8.545594
PROGRAM = Path(__file__).with_name("mavsdk_autopilot.py")


@contextmanager
def flying(port: int) -> Iterator[subprocess.Popen[str]]:
    """It, once it is ready."""
    require_package("pymavlink", "edge")
    require_package("cryptography", "edge")
    require_peer("mavsdk")
    command = [installed("mavsdk", "python"), PROGRAM, str(LATITUDE), str(LONGITUDE), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            while process.stdout.readline() != "ready\n":
                assert process.poll() is None
            yield process
        finally:
            process.kill()


def test_where_it_is_comes_out_of_mavlink_telemetry() -> None:
    port = free_udp_port()
    with flying(port):
        found = asyncio.run(heard(f"udp:127.0.0.1:{port}", lambda: None))
    for one in found:
        assert abs(one.latitude - LATITUDE) < 1e-6 and abs(one.longitude - LONGITUDE) < 1e-6


def test_it_takes_one_photo_for_a_command_and_what_it_does_not_acknowledge_is_given_up(tmp_path: Path) -> None:
    async def case(port: int) -> list[dict[str, object]]:
        hub = Hub()
        async with asyncio.timeout(60), node(tmp_path, hub, None, port) as there:
            for action in ("photo", "hold"):
                there.commands.take(hub.command(action=action))
                await there.outcome()
            return there.outcomes

    (tmp_path / "commands.json").write_text(json.dumps({"mavlink": "unsigned"}), encoding="utf-8")
    port = free_udp_port()
    with flying(port) as process:
        photo, hold = asyncio.run(case(port))
        process.kill()
        said, _ = process.communicate()
    assert (photo["done"], said) == (True, "photo\n")
    assert (hold["done"], hold["reason"]) == (False, "the autopilot did not acknowledge it, 3 times")
