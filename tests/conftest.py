"""What tests share: real parts that may be missing, and a synthetic question."""

from __future__ import annotations

import importlib.util
import os
import shutil
import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

from tests.netlab import why_not
from thalweg.models.vision.ocr import PACKAGE

settings.register_profile("thalweg", deadline=None)  # a loaded machine is slow, not wrong
settings.load_profile("thalweg")

REAL_PARTS = {"deploy", "e2e", "transports"}

EXAMPLES = Path(__file__).parent.parent / "deploy" / "examples"
QUESTION = EXAMPLES / "question.flac"
TEXT_READER = PACKAGE.replace("-", "_")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of real processes, browsers, clusters and lossy networks get a second try; the summary lists who took it.

    Where one packet in twenty is lost and machines stand still for seconds, tests that are right 999 times in 1,000
    would fail one run in ten of them all. What is broken fails twice.
    """
    for item in items:
        if REAL_PARTS & set(item.path.relative_to(Path(__file__).parent).parts[:1]):
            item.add_marker(pytest.mark.flaky(reruns=1))


def require(condition: object, command: str) -> None:
    """Skip unless `condition`, naming the command that helps; with THALWEG_REQUIRE_ALL=1 a skip is a failure."""
    if condition:
        return
    if os.environ.get("THALWEG_REQUIRE_ALL") == "1":
        pytest.fail(f"missing, and everything was required: {command}")
    pytest.skip(f"needs: {command}")


def require_package(module: str, extra: str) -> None:
    """Skip unless a package is installed."""
    require(importlib.util.find_spec(module), f"pip install 'thalweg[{extra}]'")


def require_lab() -> None:
    """Skip where hosts of their own (`tests.netlab`) are not permitted; their tool is a requirement like others."""
    require(shutil.which("ip"), "apt-get install iproute2")
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)


def write_wav(path: Path, samples: NDArray[np.float32], rate: int = 16_000) -> Path:
    """Mono, 16 bit."""
    with wave.open(str(path), "wb") as out:
        out.setparams((1, 2, rate, 0, "NONE", ""))
        out.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return path


@pytest.fixture
def voice_demo() -> None:
    """The packages and models of the voice demo."""
    from thalweg.models import ModelStore

    for module in ("av", "onnxruntime", "pocketsphinx", "openai", "xllamacpp", "piper"):
        require_package(module, "demo")
    require(all(held.complete for held in ModelStore().list()), "thalweg models pull")
