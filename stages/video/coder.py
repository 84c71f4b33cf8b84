"""A video encoder whose quantiser map, bit rate and picture size may change from frame to frame (PyAV).

The map travels as FFmpeg's region-of-interest side data, which the filter `addroi` attaches: one filter per
rectangle, the graph rebuilt only when the rectangles change. What each encoder makes of it is measured in
docs/benchmarks/video.md.

x264 starts as constant bit rate (maximum = mean), because only then does it follow a new rate on the open
context, without a key frame; the price is a little quality on scenes whose difficulty varies. The other encoders
ignore a new rate: they are opened anew, which costs a key frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.video.quantiser import MAX_QP, Patch

SMALLEST = 16
LEAST_BUFFER = 60_000
_GROWTH = 8
_TIME_BASE = Fraction(1, 1_000_000)


class VideoError(ThalwegError):
    """Video that cannot be read, encoded or decoded."""


@dataclass(frozen=True, slots=True)
class Codec:
    """`encoder`: FFmpeg's name. `live`: follows a new bit rate when open. `levels`: different offsets it takes in one
    picture. `options`: for real time, without delay; adaptive quantisation as the offsets need it."""

    encoder: str
    live: bool
    levels: int
    options: Mapping[str, str]


CODECS: Mapping[str, Codec] = MappingProxyType(
    {
        "h264": Codec(
            "libx264", True, 51, {"preset": "veryfast", "tune": "zerolatency", "aq-mode": "1", "sc_threshold": "0"}
        ),
        "hevc": Codec(
            "libx265",
            False,
            51,
            {"preset": "veryfast", "tune": "zerolatency", "x265-params": "aq-mode=1:log-level=none:pools=none"},
        ),
        "vp8": Codec("libvpx", False, 4, {"deadline": "realtime", "cpu-used": "6", "lag-in-frames": "0"}),
        "vp9": Codec(
            "libvpx-vp9", False, 8, {"deadline": "realtime", "cpu-used": "7", "lag-in-frames": "0", "aq-mode": "0"}
        ),
    }
)


@dataclass(frozen=True, slots=True)
class CodedUnit:
    """An access unit: `data`, whether it is a key unit, and the `time_ns` of its frame."""

    data: bytes
    key: bool
    time_ns: int


class Coder:
    """One compressed stream. Frames of any size; another size than the last one begins anew with a key frame.

    Odd sizes and such under 16 pixels are padded with the edge to what the encoder takes; the decoder's user crops.
    `buffer_s`, but at least `least_buffer` bits: how far ahead of the rate it may get; x264 cannot change this later,
    and no frame is larger. `refresh_s`: x264 renews the picture by a moving column of intra blocks this often, instead
    of by key frames; 0 never does. `sharpest`: the least quantiser, so that a region that is sharp enough takes no more
    (x264 only). Times must rise; a frame that does not is given the next possible time. Not thread-safe.
    """

    def __init__(
        self,
        codec: str = "h264",
        *,
        bitrate_bps: int,
        rate: float = 30.0,
        refresh_s: float = 0.0,
        buffer_s: float = 0.5,
        least_buffer: int = LEAST_BUFFER,
        sharpest: int = 0,
        options: Mapping[str, str] | None = None,
    ) -> None:
        if codec not in CODECS:
            raise VideoError(f"there is no codec {codec!r} here, expected one of {', '.join(CODECS)}")
        self.codec = CODECS[codec]
        self.graphs_built = 0
        self.opened = 0
        self._bitrate_bps = bitrate_bps
        self._rate = rate
        self._refresh_s = refresh_s
        self._buffer_s = buffer_s
        self._least_buffer = least_buffer
        self._sharpest = sharpest
        self._options = dict(options or {})
        self._context: Any = None  # Any: PyAV, which may be absent
        self._graph: Any = None
        self._patches: tuple[Patch, ...] = ()
        self._size = (0, 0)
        self._pts = -1
        self._buffer = 0
        self._force_key = False

    @property
    def bitrate_bps(self) -> int:
        """The rate that is aimed at."""
        return self._bitrate_bps

    def set_bitrate(self, bitrate_bps: int) -> None:
        """Aim at another rate from the next frame on; without a key frame where the codec follows.

        One that is many times the first one costs a key frame in x264 too, whose buffer stays as it was at the start.
        """
        bitrate_bps = max(1_000, bitrate_bps)
        if bitrate_bps == self._bitrate_bps:
            return
        self._bitrate_bps = bitrate_bps
        if self._context is not None:
            if self.codec.live and bitrate_bps * self._buffer_s <= _GROWTH * self._buffer:
                self._context.bit_rate = bitrate_bps
            else:
                self.close()

    def request_key(self) -> None:
        """Make the next frame a key frame."""
        self._force_key = True

    def encode(
        self, pixels: NDArray[np.uint8], layout: str, time_ns: int, patches: tuple[Patch, ...]
    ) -> list[CodedUnit]:
        """Encode one frame with its map; gives at once what it becomes. Raises VideoError where it cannot be."""
        return self.encode_prepared(prepared(pixels, layout), time_ns, patches)

    def encode_prepared(self, frame: Any, time_ns: int, patches: tuple[Patch, ...]) -> list[CodedUnit]:
        """As `encode`, for a frame that `prepared` has made; it may be encoded several times."""
        import av

        width, height = frame.width, frame.height
        try:
            if (width, height) != self._size or self._context is None:
                self._open(width, height)
                self._graph = None
            if self._graph is None or patches != self._patches:
                self._graph, self._patches = _graph(width, height, patches), patches
                self.graphs_built += 1
            self._pts = max(self._pts + 1, time_ns // 1_000)
            frame.pts, frame.time_base = self._pts, _TIME_BASE
            self._graph.push(frame)
            marked = self._graph.pull()
            marked.pict_type = av.video.frame.PictureType.I if self._force_key else av.video.frame.PictureType.NONE
            self._force_key = False
            return [self._unit(packet) for packet in self._context.encode(marked) if packet.size]
        except (OSError, ValueError) as error:
            raise VideoError(f"{self.codec.encoder} cannot encode {width}×{height}: {error}") from None

    def finish(self) -> list[CodedUnit]:
        """What the encoder still held back. It can go on with a key frame afterwards."""
        if self._context is None:
            return []
        units = [self._unit(packet) for packet in self._context.encode(None) if packet.size]
        self.close()
        return units

    def close(self) -> None:
        """Let go of the encoder. Idempotent; encoding again opens a new one."""
        self._context = self._graph = None
        self._size = (0, 0)

    def _unit(self, packet: Any) -> CodedUnit:
        data = bytes(packet)
        key = _holds_idr(data) if self.codec.encoder == "libx264" else bool(packet.is_keyframe)
        return CodedUnit(data, key, int(packet.pts or 0) * 1_000)

    def _open(self, width: int, height: int) -> None:
        import av

        context: Any = av.CodecContext.create(self.codec.encoder, "w")
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.time_base, context.framerate = _TIME_BASE, Fraction(self._rate).limit_denominator(1000)
        context.bit_rate = self._bitrate_bps
        context.max_b_frames = 0
        context.thread_count = 1
        rate = str(self._bitrate_bps)
        self._buffer = max(1_000, self._least_buffer, round(self._bitrate_bps * self._buffer_s))
        options = {"maxrate": rate, "bufsize": str(self._buffer)}
        frames = round(self._refresh_s * self._rate)
        context.gop_size = frames if frames and self.codec.live else 1_000_000
        if frames and self.codec.live:
            options["intra-refresh"] = "1"
        if not self.codec.live and self.codec.encoder.startswith("libvpx"):
            options["minrate"] = rate
        if self._sharpest and self.codec.encoder == "libx264":
            options["qmin"] = str(self._sharpest)
        context.options = {**options, **self.codec.options, **self._options}
        context.open()
        self._context, self._size = context, (width, height)
        self.opened += 1


def prepared(pixels: NDArray[np.uint8], layout: str) -> Any:
    """The frame as encoders take it: padded, YUV with halved colour."""
    import av

    frame = av.VideoFrame.from_ndarray(_padded(pixels), _LAYOUTS.get(layout, layout))
    return frame.reformat(format="yuv420p")


def _holds_idr(data: bytes) -> bool:
    """Whether H.264 in Annex B form has an IDR slice; x264 also marks the starts of an intra refresh as key frames."""
    place = data.find(b"\x00\x00\x01")
    while 0 <= place < len(data) - 3:
        if data[place + 3] & 0x1F == 5:
            return True
        place = data.find(b"\x00\x00\x01", place + 3)
    return False


_LAYOUTS = {"gray8": "gray", "l": "gray", "rgb": "rgb24", "bgr": "bgr24"}


def _padded(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    down, right = max(SMALLEST, height + height % 2) - height, max(SMALLEST, width + width % 2) - width
    if not down and not right:
        return np.ascontiguousarray(pixels)
    return np.pad(pixels, [(0, down), (0, right), *[(0, 0)] * (pixels.ndim - 2)], mode="edge")


def _graph(width: int, height: int, patches: tuple[Patch, ...]) -> Any:
    """source → one addroi per patch → sink. The first region that covers a block decides; patches never overlap."""
    import av

    graph: Any = av.filter.Graph()
    last = graph.add_buffer(width=width, height=height, format="yuv420p", time_base=_TIME_BASE)
    for patch in patches:
        offset = f"{patch.penalty}/{MAX_QP}"
        region = graph.add("addroi", f"x={patch.x}:y={patch.y}:w={patch.width}:h={patch.height}:qoffset={offset}")
        last.link_to(region)
        last = region
    sink = graph.add("buffersink")
    last.link_to(sink)
    graph.configure()
    return graph


class Decoder:
    """Decodes units of one stream to RGB. Gives nothing until the first key unit; hides damage as FFmpeg can.

    `quantisers`: also keep the quantiser of every 16×16 block of the last frame (H.264 only), for tests and pictures.
    """

    def __init__(self, codec: str = "h264", *, quantisers: bool = False) -> None:
        import av

        if codec not in CODECS:
            raise VideoError(f"there is no codec {codec!r} here, expected one of {', '.join(CODECS)}")
        self._context: Any = av.CodecContext.create(codec, "r")
        self._context.thread_count = 1
        if quantisers:
            self._context.options = {"export_side_data": "venc_params"}
        self._started = False
        self.quantisers: NDArray[np.int32] | None = None

    def decode(self, data: bytes, key: bool) -> list[NDArray[np.uint8]]:
        """The pictures [height, width, 3] that this unit completes. Raises VideoError where it cannot be decoded."""
        return [frame.to_ndarray(format="rgb24") for frame in self.frames(data, key)]

    def frames(self, data: bytes, key: bool) -> list[Any]:
        """As `decode`, as PyAV's frames."""
        import av

        self._started = self._started or key
        if not self._started:
            return []
        try:
            frames = self._context.decode(av.Packet(data))
        except (OSError, ValueError) as error:
            raise VideoError(f"a unit of {len(data)} bytes cannot be decoded: {error}") from None
        for frame in frames:
            found = frame.side_data.get("VIDEO_ENC_PARAMS")
            self.quantisers = None if found is None else found.qp_map()
        return list(frames)
