"""Processor time is counted of the right processes."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.conftest import TEXT_READER, require_package

for module in ("av", "cv2", TEXT_READER, "skimage"):
    require_package(module, "bench")

from thalweg.deploy.bench.video.chat import _processor_s  # noqa: E402

BUSY = "import time\nwhile time.process_time() < 0.3: pass\nprint('done', flush=True); input()"


def test_the_time_of_a_process_is_its_own_and_that_of_the_browser_is_neither_ours_nor_the_servers() -> None:
    process = subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "done\n"
        alone = _processor_s(process.pid)
        with_it, without = _processor_s(os.getpid(), besides=-1), _processor_s(os.getpid(), besides=process.pid)
    finally:
        process.communicate("\n")
    assert alone >= 0.27 and with_it - without >= 0.27, "0.3, and a tick of 10 ms for each reading"
