"""Encoding video for a viewer that looks at part of it, and decoding it again."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Annotated, Any, Literal

from pydantic import Field

from thalweg.pipeline.duration import MS, Duration
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import EncodedVideo, Regions, VideoFrame
from thalweg.pipeline.signal import Bitrate, Decodes, KeyFrame, Region, Signal
from thalweg.pipeline.stage import Context, Port
from thalweg.pipeline.video.quantiser import Shape, levels, patches, penalties
from thalweg.pipeline.video.regions import RegionTrack
from thalweg.stages.video.coder import CODECS, CodedUnit, Coder, Decoder, VideoError
from thalweg.stages.video.lowpass import scaled, soften
from thalweg.stages.vision.drift import Drift

CodecName = Annotated[Literal["h264", "hevc", "vp8", "vp9"], Field(description="compression format")]
_STRENGTHS = 8
_OPENING_NS = 500 * MS


class VideoEncoder:
    """Encodes frames at a target bit rate, and spends the bits on the regions that matter (Artic).

    The farther a block is from the nearest region, the more coarsely it is coded. Without a region, or once the last
    one has expired, the picture is coded evenly. Regions come by the port or as signals from downstream. A `Bitrate`
    signal takes effect with the next frame, in h264 without a key frame. A viewer that does not support `codec` gets
    the first one that it supports.
    """

    inputs = {"frame": VideoFrame, "regions": Port(Regions, required=False)}
    outputs = {"video": EncodedVideo}
    configurable = ("bitrate", "rate", "scale", "gamma", "floor", "follow", "alone")
    blocking = True

    def __init__(
        self,
        bitrate: Annotated[int, Field(ge=1_000, description="target, bit/s")] = 500_000,
        codec: CodecName = "h264",
        rate: Annotated[float, Field(gt=0, le=240, description="frames per second that are encoded, at most")] = 30.0,
        scale: Annotated[
            float, Field(gt=0, le=1, description="size of the coded picture, as a share of the frame's")
        ] = 1.0,
        method: Annotated[
            Literal["quantiser", "lowpass", "none"],
            Field(
                description="how regions are favoured: by the encoder's quantiser, by blurring the rest, or not at all"
            ),
        ] = "quantiser",
        gamma: Annotated[
            float, Field(ge=0.1, le=99, description="steepness around a region; higher is narrower")
        ] = 32.0,
        floor: Annotated[int, Field(ge=0, le=51, description="how much coarser the background may be, QP steps")] = 25,
        block: Annotated[int, Field(ge=16, le=256, description="side of a block, pixels")] = 32,
        sharpest: Annotated[
            int,
            Field(ge=0, le=51, description="lowest quantiser, QP: a region gets no more bits than this needs (h264)"),
        ] = 18,
        opening: Annotated[
            int,
            Field(
                ge=0,
                le=51,
                description="before the first region has come, for half a second at most, the picture is this much "
                "coarser, QP steps; where regions are sure to come, 20 saves what a sharp first frame costs",
            ),
        ] = 0,
        follow: Annotated[bool, Field(description="follow regions; false: code the picture evenly")] = True,
        alone: Annotated[
            bool, Field(description="code each frame independently, so that a lost or damaged one affects no other")
        ] = False,
        carry: Annotated[
            bool, Field(description="keep regions on their objects while the camera moves; costs 1 ms per frame")
        ] = True,
        refresh: Annotated[
            Duration | None, Field(description="period of gradual intra refresh, instead of key frames")
        ] = None,
    ) -> None:
        self.bitrate, self.rate, self.scale, self.gamma, self.floor = bitrate, rate, scale, gamma, floor
        self.follow, self.alone = follow, alone
        self._sharpest = sharpest
        self._opening = opening
        self._began_ns: int | None = None
        self._codec = self._wanted = self._usual = str(codec)
        self._method = method
        self._block = block
        self._refresh_s = (refresh or 0) / 1e9
        self._carry = carry
        self._drift: Drift | None = None
        self._track = RegionTrack()
        self._heard: deque[Region] = deque(maxlen=64)
        self._due_ns: int | None = None
        self._key_wanted = False
        self._coder: Coder | None = None

    def open(self, ctx: Context) -> None:
        """Raises VideoError where the encoder is missing."""
        try:
            import av  # noqa: F401
        except ImportError:
            raise VideoError("encoding needs PyAV: pip install 'thalweg[video]'") from None
        if self._carry and find_spec("cv2") is None:
            self._carry = False
            ctx.report("regions do not follow the camera without OpenCV: pip install 'thalweg[video]'")
        self._coder = self._make()

    def close(self) -> None:
        """Let go of the encoder."""
        if self._coder is not None:
            self._coder.close()

    def configure(self, settings: dict[str, Any]) -> None:
        """Taken from the next frame on; another scale costs a key frame."""
        for name, value in settings.items():
            setattr(self, name, value)

    def on_signal(self, signal: Signal, ctx: Context) -> None:
        """A region, a bit rate or a request for a key frame from the viewer."""
        if isinstance(signal, Region):
            self._heard.append(signal)
        elif isinstance(signal, Bitrate):
            self.bitrate = max(1_000, signal.bitrate_bps)
        elif isinstance(signal, KeyFrame):
            self._key_wanted = True
        elif isinstance(signal, Decodes):
            known = [codec for codec in signal.codecs if codec in CODECS]
            self._wanted = self._usual if self._usual in known or not known else known[0]

    def process(self, packet: Packet, ctx: Context) -> None:
        """Note regions; encode a frame, unless it comes too soon after the last one."""
        payload = packet.payload
        if isinstance(payload, Regions):
            self._look(packet.time, payload.boxes, payload.confidence, payload.half_life_ns)
            return
        assert isinstance(payload, VideoFrame) and self._coder is not None
        while self._heard:
            region = self._heard.popleft()
            self._look(region.time, region.boxes, 1.0, 1_000 * MS)
        if not self._due(packet.time):
            return
        coder = self._coder = self._follow_viewer(self._coder)
        here = self._drift.see(payload.pixels, packet.time) if self._drift is not None else (0.0, 0.0)
        pixels = scaled(payload.pixels, self.scale)
        height, width = pixels.shape[:2]
        boxes, strength = self._track.at(packet.time, here) if self.follow else ((), 0.0)
        shape = Shape(gamma=self.gamma, floor=self.floor, block=self._block)
        steps = round(strength * _STRENGTHS) / _STRENGTHS
        found = penalties(boxes, width, height, shape=shape, strength=steps)
        if self._opens(packet.time):
            found[:] = self._opening
        tiles = patches(levels(found, coder.codec.levels), width, height, self._block)
        if self._method == "lowpass":
            pixels = soften(pixels, found, self._block, self.floor)
        coder.set_bitrate(self.bitrate)
        if self._key_wanted or self.alone:
            self._key_wanted = False
            coder.request_key()
        marked = tiles if self._method == "quantiser" else ()
        for unit in coder.encode(pixels, payload.layout, packet.time, marked):
            self._emit(unit, (width, height), ctx)

    def _follow_viewer(self, coder: Coder) -> Coder:
        """The encoder that the viewer can follow: a new one, which begins with a key frame, where that changes."""
        if self._codec == self._wanted:
            return coder
        coder.close()
        self._codec = self._wanted
        return self._make()

    def _look(self, time_ns: int, boxes: Iterable[Iterable[float]], confidence: float, half_life_ns: int) -> None:
        """Note where to look. Only from the first time on is it worth to know how the camera moves."""
        if self._drift is None and self._carry:
            self._drift = Drift()
        origin = self._drift.at(time_ns) if self._drift is not None else (0.0, 0.0)
        self._track.update(time_ns, boxes, confidence, half_life_ns, origin)

    def _opens(self, time_ns: int) -> bool:
        """Whether regions are still awaited."""
        if self._began_ns is None:
            self._began_ns = time_ns
        return bool(self._opening and not self._track and 0 <= time_ns - self._began_ns < _OPENING_NS)

    def finish(self, ctx: Context) -> None:
        """Encoders here hold nothing back; should one have, it is sent."""
        if self._coder is not None and self._size is not None:
            for unit in self._coder.finish():
                self._emit(unit, self._size, ctx)

    _size: tuple[int, int] | None = None

    def _emit(self, unit: CodedUnit, size: tuple[int, int], ctx: Context) -> None:
        self._size = size
        video = EncodedVideo(data=unit.data, codec=self._codec, width=size[0], height=size[1], key=unit.key)
        ctx.emit(video)

    def _make(self) -> Coder:
        return Coder(
            self._codec,
            bitrate_bps=self.bitrate,
            rate=self.rate,
            refresh_s=self._refresh_s,
            sharpest=self._sharpest,
        )

    def _due(self, time_ns: int) -> bool:
        """At most `rate` frames a second by capture time; a clock that jumps starts the count anew."""
        period_ns = round(1e9 / self.rate)
        if self._due_ns is not None and -2 * period_ns < time_ns - self._due_ns < -period_ns // 20:
            return False
        late = self._due_ns is None or not 0 <= time_ns - self._due_ns < period_ns
        self._due_ns = (time_ns if late or self._due_ns is None else self._due_ns) + period_ns
        return True


class VideoDecoder:
    """Decodes video to RGB frames of the encoded size. Waits for the first key unit; conceals losses."""

    inputs = {"video": EncodedVideo}
    outputs = {"frame": VideoFrame}
    blocking = True

    def __init__(self) -> None:
        self._decoder: Decoder | None = None
        self._codec = ""

    def process(self, packet: Packet, ctx: Context) -> None:
        """Decode one unit."""
        video = packet.payload
        assert isinstance(video, EncodedVideo)
        if self._decoder is None or video.codec != self._codec:
            self._decoder, self._codec = Decoder(video.codec), video.codec
        for pixels in self._decoder.decode(video.data, video.key):
            ctx.emit(VideoFrame(pixels=pixels[: video.height, : video.width]))
