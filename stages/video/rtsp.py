"""Pictures of a camera on the network, by RTSP: it may come later, stall, go away and come back."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import Callable
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlsplit, urlunsplit

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from thalweg.pipeline.duration import MS, Duration
from thalweg.pipeline.fleet.backoff import pause_s
from thalweg.pipeline.payload import VideoFrame
from thalweg.pipeline.stage import Context
from thalweg.stages.io.media import MediaError, watched
from thalweg.stages.video.coder import VideoError
from thalweg.stages.video.file import rgb
from thalweg.stages.video.upright import AS_IT_IS

LONGEST_PAUSE_S = 20.0
_RTSP_PORT = 554


class VideoRtsp:
    """Reads a camera by RTSP as RGB frames; the newest one wins.

    A camera that is not there, stalls or goes away is asked again, after pauses that double up to 20 s: the pipeline
    goes on meanwhile, and the reason is reported once. One that has sent nothing for `patience` has stalled, also where
    its connection seems to stand. Frames carry the time at which they have arrived. What comes faster than it is taken
    is left out and counted (`skipped`). User and password are read from an environment variable that `login` names,
    as USER:PASSWORD; they are refused in `url`, and are in no message.
    """

    outputs = {"frame": VideoFrame}

    def __init__(
        self,
        url: Annotated[str, Field(description="`rtsp://HOST:PORT/PATH`")],
        login: Annotated[str, Field(description="environment variable that holds USER:PASSWORD; none")] = "",
        transport: Annotated[Literal["tcp", "udp"], Field(description="how pictures come")] = "tcp",
        patience: Annotated[Duration, Field(gt=0, description="no picture for so long: it has stalled")] = 5_000 * MS,
        height: Annotated[
            int | None, Field(ge=1, le=8192, description="scale down to at most this many lines; as it is if left out")
        ] = None,
    ) -> None:
        self.where, self._url = _plain(url), url
        self._login = login
        self._transport = transport
        self._patience_s = patience / 1e9
        self._height = height
        self._stop = threading.Event()
        self._newest: tuple[int, NDArray[np.uint8]] | None = None
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None
        self.counts = {"connected": 0, "failed": 0, "skipped": 0}

    def open(self, ctx: Context) -> None:
        """Raises VideoError where the login is not in the environment. The camera is not waited for."""
        if self._login:
            user, colon, password = os.environ.get(self._login, "").partition(":")
            if not colon:
                raise VideoError(f"${self._login} holds no USER:PASSWORD for the camera at {self.where}")
            parts = urlsplit(self._url)
            login = f"{quote(user, safe='')}:{quote(password, safe='')}@"
            self._url = urlunsplit(parts._replace(netloc=login + parts.netloc))

    async def run(self, ctx: Context) -> None:
        """Until the pipeline ends. Raises whatever ends the watching that is no fault of the camera."""
        self._stop.clear()
        self._failure = None
        loop, news = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            loop.call_soon_threadsafe(news.set)

        self._thread = threading.Thread(target=self._watch_on, args=(ctx, tell), name="camera", daemon=True)
        self._thread.start()
        try:
            while True:
                await news.wait()
                news.clear()
                if self._failure is not None:
                    raise self._failure
                with self._lock:
                    newest, self._newest = self._newest, None
                if newest is not None:
                    await ctx.send(VideoFrame(pixels=newest[1]), time=newest[0])
        finally:
            self._stop.set()

    def close(self) -> None:
        """Let go of the camera."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(self._patience_s + 1.0)

    def _watch_on(self, ctx: Context, tell: Callable[[], None]) -> None:
        try:
            self._watch_again(ctx, tell)
        except Exception as error:  # a thread cannot raise to the pipeline
            self._failure = error
            tell()

    def _watch_again(self, ctx: Context, tell: Callable[[], None]) -> None:
        """Until it is told to stop: the camera, again and again."""
        failures, said = 0, ""
        while not self._stop.is_set():
            before = self.counts["connected"]
            try:
                with watched(self._url, self._transport, self._patience_s) as pictures:
                    for frame in pictures:
                        self.counts["connected"] += self.counts["connected"] == before
                        self._take(frame, ctx.now_ns())
                        tell()
                        if self._stop.is_set():
                            return
            except MediaError as error:
                failures = 1 if self.counts["connected"] > before else failures + 1
                said = "" if self.counts["connected"] > before else said
                self.counts["failed"] += 1
                if str(error) != said:
                    said = str(error)
                    ctx.report(f"the camera at {self.where}: {said}; it is asked again")
            self._stop.wait(min(LONGEST_PAUSE_S, pause_s(failures)))

    def _take(self, frame: Any, now_ns: int) -> None:
        pixels = rgb(frame, self._height, AS_IT_IS)
        with self._lock:
            self.counts["skipped"] += self._newest is not None
            self._newest = now_ns, pixels


def _plain(url: str) -> str:
    """Host and port, for messages. Raises VideoError on what is no address of a camera."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or _RTSP_PORT
    except ValueError:
        host, port, parts = None, 0, urlsplit("")
    if parts.scheme != "rtsp" or not host or re.search(r"[\s\x00-\x1f]", url):
        raise VideoError("`url` is no address of a camera, expected rtsp://HOST:PORT/PATH")
    if "@" in parts.netloc:
        raise VideoError(
            "`url` holds a user or a password, which would be seen wherever the file is: put USER:PASSWORD into an "
            "environment variable, and its name into `login`"
        )
    return f"{host}:{port}"
