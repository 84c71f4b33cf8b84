"""Connecting to Ray: bounded, whatever is at the address."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from thalweg.deploy.cluster import ray_host
from thalweg.deploy.cluster.ray_host import RayCarrier
from thalweg.deploy.cluster.remote import RemoteError


def refusal(address: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, float]:
    """What is said about an address, and after how long."""
    monkeypatch.setenv("RAY_ADDRESS", address)
    order = SimpleNamespace(worker=SimpleNamespace(name="ears", options={}), bundle=None, on_problem=None)
    carrier = RayCarrier(order)  # type: ignore[arg-type]
    before = time.monotonic()
    with pytest.raises(RemoteError) as caught:
        asyncio.run(carrier.start())
    return str(caught.value), time.monotonic() - before


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """A Ray whose `init` never comes back; set in the end."""
    over = threading.Event()
    fake = SimpleNamespace(is_initialized=lambda: False, init=lambda **_: over.wait(20))
    monkeypatch.setitem(sys.modules, "ray", fake)
    return over


@pytest.mark.parametrize("shape", ["ray://127.0.0.1:{}", "127.0.0.1:{}", "ray://127.0.0.1:{}/?namespace=x"])
@pytest.mark.usefixtures("ray")
def test_an_address_where_nobody_listens_is_told_at_once(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    said, took_s = refusal(shape.format(port), monkeypatch)
    assert said.startswith(f"there is no Ray cluster at {shape.format(port)}: Connection refused")
    assert took_s < 5


@pytest.mark.parametrize("address", ["127.0.0.1:99999999", "ray://[::1", "a" * 80 + ".invalid:1"])
def test_an_address_that_is_none_is_told(address: str, monkeypatch: pytest.MonkeyPatch, ray: threading.Event) -> None:
    monkeypatch.setattr(ray_host, "CONNECT_S", 0.2)
    assert "Ray cluster" in refusal(address, monkeypatch)[0]
    ray.set()


def test_an_address_that_takes_connections_and_says_nothing_is_given_up(
    monkeypatch: pytest.MonkeyPatch, ray: threading.Event
) -> None:
    monkeypatch.setattr(ray_host, "CONNECT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"ray://127.0.0.1:{silent.getsockname()[1]}"
        said, took_s = refusal(address, monkeypatch)
    ray.set()
    assert said.startswith(f"no Ray cluster answers at {address} within 0.2 s")
    assert took_s < 5


class AuthenticationError(Exception):
    """As Ray's."""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (AuthenticationError("Token is missing"), "the Ray cluster refuses this process: "),
        (ConnectionError("Failed to connect"), "there is no Ray cluster to connect to: "),  # without RAY_AUTH_MODE
    ],
)
def test_a_cluster_that_wants_a_token_is_said_to(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def init(**_: object) -> None:
        logging.getLogger("ray._private.worker").warning("SIGTERM handler is not set because …")
        logging.getLogger("ray._private.worker").warning("something else")
        raise error

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False, init=init))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(RemoteError) as caught:
        ray_host.connected_ray()
    assert str(caught.value).startswith(said)
    assert "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH here as on its nodes" in str(caught.value)
    assert str(error) in str(caught.value)
    assert [record.getMessage() for record in caplog.records] == ["something else"]


def test_a_cluster_that_is_gone_holds_up_no_close(monkeypatch: pytest.MonkeyPatch, ray: threading.Event) -> None:
    monkeypatch.setattr(ray_host, "CLOSE_S", 0.1)
    monkeypatch.setattr(sys.modules["ray"], "kill", lambda _: ray.wait(20), raising=False)
    order = SimpleNamespace(worker=SimpleNamespace(name="ears", options={}), bundle=None, on_problem=None)
    carrier = RayCarrier(order)  # type: ignore[arg-type]
    carrier._actor = object()
    asyncio.run(carrier.close())
    ray.set()
    assert carrier._actor is None


PRIORITY = """
import logging, os, threading
logging.basicConfig()
os.setpriority(os.PRIO_PROCESS, 0, 15)  # as Ray does, whatever this was started with
threading.Thread(target=threading.Event().wait, daemon=True).start()
{before}
from thalweg.deploy.cluster.ray_host import usual_priority
usual_priority()
print(*sorted({{os.getpriority(os.PRIO_PROCESS, int(thread)) for thread in os.listdir("/proc/self/task")}}))
"""


def priority(before: str, **env: str) -> tuple[list[int], str]:
    """The niceness of all threads of a worker of Ray's after it was told to change it, and what it logged."""
    given = {key: value for key, value in os.environ.items() if key != "RAY_worker_niceness"} | env
    command = [sys.executable, "-c", PRIORITY.format(before=before)]
    done = subprocess.run(command, env=given, capture_output=True, text=True, check=True, timeout=60)
    return [int(one) for one in done.stdout.split()], done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux, a niceness of each thread")
def test_a_worker_of_rays_does_not_give_way_to_everything_else() -> None:
    if os.geteuid() == 0:
        assert priority("") == ([0], "")
    left, said = priority("", RAY_worker_niceness="15")
    assert (left[-1], said) == (15, ""), "the operator's word stands"
    refused, said = priority("os.setpriority = lambda *_: (_ for _ in ()).throw(PermissionError())")
    assert refused[-1] == 15
    assert "set RAY_worker_niceness=0 where `ray start` is called" in said
