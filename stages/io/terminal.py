"""What this program says: on its standard output and error, and in its log. The only place that writes to them.

Every line goes through `printable`, wherever its text came from, and is in UTF-8 unless a terminal wants something
else: no locale changes what is said, or whether it can be. A reader that is gone, as with `| head -1`, is told to the
caller once, and what is written after that goes nowhere. A stream that was closed from the beginning (`>&-`) is not
missed.
"""

from __future__ import annotations

import codecs
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from types import TracebackType
from typing import TextIO

from thalweg.pipeline.errors import ReaderGone, ThalwegError
from thalweg.pipeline.text import as_json, printable

READER_GONE = 141
"""The exit code of a program whose reader is gone: 128 + SIGPIPE, as a shell shows it."""
LONGEST = 1_000_000
conversation: ContextVar[Callable[[], str]] = ContextVar("conversation")
"""What names the conversation that the current task belongs to: the field `session` of each line that it logs."""


class OutputLost(ThalwegError):
    """Standard output that cannot be written to, such as a file on a full disk."""


def be_in_utf8() -> None:
    """Begin this program anew in Python's UTF-8 mode where the locale is of another encoding. For `main` alone.

    With it names of files, arguments, pipes and what other packages read by the locale are the same text anywhere, in
    the processes that we start, too. A locale of UTF-8, and C, for which Python does so by itself, cost nothing.
    """
    if sys.flags.utf8_mode or codecs.lookup(sys.getfilesystemencoding()).name == "utf-8":
        return
    if "PYTHONUTF8" not in os.environ:  # who has set it to 0 wants it so
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def begin() -> None:
    """Make the standard streams fit to be written to. For entry points, before anything is opened. Idempotent."""
    while (spare := os.open(os.devnull, os.O_RDWR)) <= 2:  # a number of 0…2 that is free would go to the next file
        os.set_inheritable(spare, True)
    os.close(spare)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))
        elif mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding=stream.encoding if stream.isatty() else "utf-8", errors="backslashreplace")
    sys.excepthook = _say_traceback


def log_to_stderr(
    level: int = logging.WARNING, form: str = "%(message)s", ours: int = logging.INFO, as_json: bool = False
) -> None:
    """Log to standard error: our own lines from level `ours` on, those of other packages from `level` on.

    `as_json`: an object in each line, of time, level, logger and message, the conversation that it is about where it is
    about one (`session`), and what `fields` of a record adds.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if as_json else _Formatter(form))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("thalweg").setLevel(ours)


@contextmanager
def about(named: Callable[[], str]) -> Iterator[None]:
    """The block, and every task that begins in it, belongs to the conversation that `named` gives."""
    token = conversation.set(named)
    try:
        yield
    finally:
        conversation.reset(token)


def _say_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    say("".join(traceback.format_exception(kind, error, trace)), err=True, end="", level=logging.ERROR)


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Further lines are indented, so that none in a foreign text passes for a line of ours."""
        return printable(super().format(record), LONGEST, lines=True).replace("\n", "\n    ")


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        said = super().format(record)
        known = {"time": record.created, "level": record.levelname.lower(), "logger": record.name}
        named = conversation.get(None)
        fields = ({} if named is None else {"session": named()}) | getattr(record, "fields", {})
        return as_json(known | {"message": printable(said, LONGEST, lines=True)} | fields)


def logs_objects() -> bool:
    """Whether the log is of objects."""
    return any(isinstance(handler.formatter, _JsonFormatter) for handler in logging.getLogger().handlers)


def is_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()


def say(
    text: object = "", *, err: bool = False, end: str = "\n", over: bool = False, level: int = logging.INFO
) -> None:
    """Print a text, on standard error with `err`, `over` what the line has held so far.

    Where the log is of objects, so is what is said on standard error, with that `level`. Raises ReaderGone, OutputLost;
    an error message without a reader is discarded.
    """
    if err and not over and logs_objects():
        record = logging.LogRecord("thalweg", level, "", 0, str(text).rstrip("\n"), None, None)
        write(_JsonFormatter().format(record) + "\n", err=True)
    else:
        write(said(text, end=end, over=over), err=err)


def said(text: object, *, end: str = "\n", over: bool = False) -> str:
    """What `say` writes."""
    return ("\r\x1b[K" if over else "") + printable(text, LONGEST, lines=True) + end


def say_json(value: object, *, indent: int | None = None) -> None:
    """Print JSON that reads back as it was. Raises as `say`."""
    write(as_json(value, indent=indent) + "\n")


def write(text: str, *, err: bool = False, stream: TextIO | None = None) -> None:
    """Write, at once, what is fit to be printed already. Raises as `say`. `stream`: what stands for it just now."""
    stream = stream or (sys.stderr if err else sys.stdout)
    if stream is None:
        return
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        _hush(stream)
        if err:
            return
        if isinstance(error, BrokenPipeError):
            raise ReaderGone("standard output has no reader any more") from None
        raise OutputLost(f"cannot write to standard output: {error.strerror}") from None


def _hush(stream: TextIO) -> None:
    """From now on what is written to a stream goes nowhere: else each line fails, and Python's last flush at exit."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
