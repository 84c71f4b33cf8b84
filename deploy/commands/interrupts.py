"""Ctrl-C, even if something hangs: the first asks a run to stop, the second to end; it has ended `LAST_S` later.

Theory of operation. An event loop cannot hear a signal while a stage computes on it, nor can Python's own handlers
while the main thread is inside of a library. So each signal is written into a socket from the C handler
(`set_wakeup_fd`), and a thread reads it there: it tells the loop, and after the second signal it waits. If the block
has not been left by then, it does what must be done last, and ends the process.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

LAST_S = 1.6
NUMBERS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interrupts(told: Callable[[], None], last: Callable[[], None], code: int) -> Iterator[None]:
    """Within the block call `told` on the loop for each signal. To be entered on it, in the main thread.

    Where the block is still under way `LAST_S` after the second one, `last` is called in another thread and the
    process ends with `code`, without flushing or closing anything.
    """
    loop = asyncio.get_running_loop()
    heard, wakes = socket.socketpair()
    wakes.setblocking(False)
    left = threading.Event()

    def listen() -> None:
        count = 0
        while numbers := heard.recv(16):
            for number in numbers:
                if number not in NUMBERS:
                    continue
                count += 1
                with suppress(RuntimeError):  # the loop is closed: the block is being left
                    loop.call_soon_threadsafe(told)
                if count == 2:
                    threading.Thread(target=wait, name="last-resort", daemon=True).start()

    def wait() -> None:
        if not left.wait(LAST_S):
            try:
                last()
            finally:
                os._exit(code)

    before = {number: signal.signal(number, lambda *_: None) for number in NUMBERS}
    woken_before = signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=listen, name="signals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        left.set()
        signal.set_wakeup_fd(woken_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        wakes.close()
        thread.join()
        heard.close()
