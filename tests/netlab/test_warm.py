"""A connection that is made while somebody begins to speak saves the question two round trips: TCP's and TLS's."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from pathlib import Path

import pytest

from tests.conftest import require_lab, require_package
from tests.models.http.test_certificates import certificate
from tests.netlab import Link, lab

DELAY_MS, PAIRS = 40, 20


@pytest.mark.real
def test_the_first_word_comes_two_round_trips_sooner(tmp_path: Path) -> None:
    require_lab()
    require_package("httpx", "language")
    with lab("edge", "cloud", link=Link(delay_ms=DELAY_MS), seed=4) as net:
        pem = certificate(tmp_path, net.cloud.address)
        server = net.cloud.python(
            "-m", "tests.netlab.warm", "serve", net.cloud.address, "8443", pem, stdout=subprocess.PIPE, text=True
        )
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        url = f"https://{net.cloud.address}:8443/v1"
        trusting = os.environ | {"SSL_CERT_FILE": str(pem)}
        asking = net.edge.python(
            "-m", "tests.netlab.warm", "ask", url, str(PAIRS), env=trusting, stdout=subprocess.PIPE
        )
        pairs = json.loads(asking.communicate(timeout=120)[0])
    cold_s, warm_s = (statistics.median(each) for each in zip(*pairs, strict=True))
    saved = statistics.median((cold - warm) / (2e-3 * DELAY_MS) for cold, warm in pairs)
    print(f"first text: cold {1e3 * cold_s:.0f} ms, warm {1e3 * warm_s:.0f} ms; {saved:.2f} round trips saved")
    assert 1.8 <= saved <= 3.0
