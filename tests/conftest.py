"""What tests share: real parts that may be missing, and a synthetic question."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
from collections.abc import Generator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

from tests import once, skipped, transitions
from tests.netlab import why_not
from tests.unit_guard import LIMIT_S, is_unit, refuse_model, watched
from thalweg.models.speech import wav
from thalweg.models.vision.ocr import PACKAGE

settings.register_profile("thalweg", deadline=None)  # a loaded machine is slow, not wrong
settings.load_profile("thalweg")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # begun in the background by a shell: what Ctrl-C does is tested
    signal.signal(signal.SIGINT, signal.default_int_handler)

TESTS = Path(__file__).parent
EXAMPLES = TESTS.parent / "deploy" / "examples"
QUESTION = EXAMPLES / "question.flac"
MAKEFILE = (TESTS.parent / "Makefile").read_text(encoding="utf-8")
DEMO_MODELS = re.findall(r"^DEMO_MODELS := (.*)", MAKEFILE, re.MULTILINE)[0].split()
TEXT_READER = PACKAGE.replace("-", "_")


def pytest_configure(config: pytest.Config) -> None:
    """The two kinds of tests (`tests.unit_guard`)."""
    config.addinivalue_line("markers", "real: starts processes, uses the network, or wants models that are fetched")
    config.addinivalue_line("markers", "unit: every test that is not `real`; set by itself")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """A worker for each processor that we may use, hyperthreads too, but no more than are worth their start."""
    return min(8, len(os.sched_getaffinity(0)))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks unit tests, and gives all others a second try; the summary lists who took it. Whole benchmarks, however
    short, take ten minutes together: they are for those who ask for them, and for CI.

    Where one packet in twenty is lost and machines stand still for seconds, tests that are right 999 times in 1,000
    would fail one run in ten of them all. What is broken fails twice.
    """
    items[:], left_out = once.divided(items)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
    for item in items:
        if is_unit(item, TESTS):
            item.add_marker("unit")
            continue
        item.add_marker(pytest.mark.flaky(reruns=1))
        item.add_marker(pytest.mark.xdist_group(_side(item)))
        if _side(item) == "bench" and not (os.environ.keys() & {"THALWEG_SLOW", "THALWEG_REQUIRE_ALL"}):
            item.add_marker(pytest.mark.skip(reason="needs: THALWEG_SLOW=1 make test"))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """To have nothing to run is well where everything has passed before."""
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and once.passed_before():
        session.exitstatus = pytest.ExitCode.OK


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Unit tests are watched."""
    with _watch(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Unit tests are watched."""
    with _watch(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Unit tests are watched."""
    with _watch(item):
        return (yield)


def _side(item: pytest.Item) -> str:
    """Tests of one name run one after the other, in one process: those of a file, which share what they load; all that
    measure; all with a Ray cluster, of which there may be one at a time.
    """
    folder, file = item.path.parent.relative_to(TESTS).as_posix(), item.path.name
    return "bench" if folder == "bench" else "ray" if "ray" in file else f"{folder}/{file}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """What was skipped, by the command that would bring it; and what passed is noted, where that is wanted."""
    once.keep(once.ids_of(terminalreporter.stats.get("passed", ())))
    found = skipped.groups(terminalreporter.stats.get("skipped", ()))
    cache = getattr(config, "cache", None)
    if cache is not None and config.option.markexpr == "unit":
        cache.set(skipped.KEPT, found)
    if cache is not None and config.option.markexpr == "not unit":
        found = skipped.merged(found, cache.get(skipped.KEPT, {}))
    if found:
        count = sum(sum(files.values()) for files in found.values())
        terminalreporter.section(f"{count} skipped, by what would bring them")
        for line in skipped.lines(found):
            terminalreporter.line(line)


def _watch(item: pytest.Item) -> AbstractContextManager[None]:
    """Their time counts where nothing but unit tests has run before: others may leave threads at work."""
    if not item.get_closest_marker("unit"):
        return nullcontext()
    return watched(LIMIT_S if item.config.option.markexpr == "unit" else None)


def require(condition: object, command: str) -> None:
    """Skip unless `condition`, naming the command that helps; with THALWEG_REQUIRE_ALL=1 a skip is a failure."""
    if condition:
        return
    if os.environ.get("THALWEG_REQUIRE_ALL") == "1":
        pytest.fail(f"missing, and everything was required: {command}")
    pytest.skip(f"needs: {command}")


def require_package(module: str, extra: str) -> None:
    """Skip unless a package is installed."""
    require(importlib.util.find_spec(module), f".venv/bin/pip install -e '.[{extra}]'")


def require_model(name: str) -> None:
    """Skip unless a model is here; what a test wants of that kind `make test` fetches (TEST_MODELS in the Makefile)."""
    from thalweg.models import ModelStore

    command = f".venv/bin/thalweg models pull {name}"
    refuse_model(command)
    require(next(held.complete for held in ModelStore().list() if held.model.name == name), command)


def require_lab() -> None:
    """Skip where hosts of their own (`tests.netlab`) are not permitted; their tool is a requirement like others."""
    require(shutil.which("ip"), "apt-get install iproute2")
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)


def write_wav(path: Path, samples: NDArray[np.float32], rate: int = 16_000) -> Path:
    """Mono, 16 bit."""
    wav.write_wav(path, samples, rate)
    return path


@pytest.fixture(autouse=True)
def steps_are_in_their_tables() -> Generator[None, None, None]:
    """No state machine takes a step that its table of transitions does not have (`tests.transitions`)."""
    transitions.watch()
    transitions.found.clear()
    yield
    assert not transitions.found, transitions.found[0]


@pytest.fixture
def voice_demo() -> None:
    """The packages and models of the voice demo."""
    for module in ("av", "onnxruntime", "ctranslate2", "pocketsphinx", "httpx", "xllamacpp", "piper"):
        require_package(module, "demo")
    for name in DEMO_MODELS:
        require_model(name)
