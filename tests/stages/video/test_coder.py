"""The encoder does what the map says: the quantisers really used are read back from the bit stream."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import require_package
from thalweg.pipeline.video.quantiser import Patch, Shape, patches, penalties
from thalweg.stages.video.coder import CODECS, Coder, Decoder, VideoError

require_package("av", "video")
STEP = 100_000_000
BOX = (0.3, 0.3, 0.2, 0.2, 1.0)
SHAPE = Shape(gamma=3.0, floor=20, block=64)


def scene(n: int, width: int = 640, height: int = 480) -> list[NDArray[np.uint8]]:
    """Synthetic: coloured noise of several coarsenesses that drifts, so that there is something to spend bits on."""
    random = np.random.default_rng(1)
    wall = np.zeros((height + n, width + 2 * n, 3))
    for coarse in (4, 8, 32):
        rough = random.uniform(0, 80, (-(-wall.shape[0] // coarse), -(-wall.shape[1] // coarse), 3))
        wall += np.repeat(np.repeat(rough, coarse, 0), coarse, 1)[: wall.shape[0], : wall.shape[1]]
    return [wall[i : i + height, 2 * i : 2 * i + width].astype(np.uint8) for i in range(n)]


def run(coder: Coder, frames: list[NDArray[np.uint8]], tiles: tuple[Patch, ...] = ()) -> list[tuple[bytes, bool]]:
    units = [unit for i, frame in enumerate(frames) for unit in coder.encode(frame, "rgb24", i * STEP, tiles)]
    return [(unit.data, unit.key) for unit in units]


def test_the_quantisers_in_the_stream_follow_the_map() -> None:
    wanted = penalties([BOX], 640, 480, shape=SHAPE)
    tiles = patches(wanted, 640, 480, 64)
    coder = Coder(bitrate_bps=2_000_000, rate=10, options={"aq-strength": "0.01"})
    decoder = Decoder(quantisers=True)
    applied = []
    for data, key in run(coder, scene(12), tiles):
        decoder.decode(data, key)
        assert decoder.quantisers is not None
        applied.append(decoder.quantisers.copy())
    blocks = np.repeat(np.repeat(wanted, 4, 0), 4, 1)[:30, :40]  # of 16×16, as the codec has them
    used = np.mean(applied[4:], 0)
    levels = [float(used[blocks == penalty].mean()) for penalty in (0, 8, 20)]
    assert levels[1] - levels[0] == pytest.approx(8, abs=2)
    assert levels[2] - levels[0] == pytest.approx(20, abs=2)


def test_without_a_map_all_blocks_are_coded_alike() -> None:
    coder, decoder = Coder(bitrate_bps=400_000, rate=10, options={"aq-strength": "0.01"}), Decoder(quantisers=True)
    for data, key in run(coder, scene(6)):
        decoder.decode(data, key)
    assert decoder.quantisers is not None and np.ptp(decoder.quantisers) <= 2


@pytest.mark.parametrize("codec", CODECS)
def test_a_region_gains_detail_at_the_same_rate_in_every_codec(codec: str) -> None:
    frames = scene(24)
    tiles = patches(np.where(penalties([BOX], 640, 480, shape=SHAPE) > 0, 12, 0).astype(np.int8), 640, 480, 64)
    errors, sizes = [], []
    for chosen in ((), tiles):
        coder, decoder = Coder(codec, bitrate_bps=300_000, rate=10), Decoder(codec)
        pictures = [p for data, key in run(coder, frames, chosen) for p in decoder.decode(data, key)]
        coder.finish()
        inside = (slice(144, 240), slice(192, 320))
        errors.append(np.mean((pictures[-1][inside].astype(float) - frames[len(pictures) - 1][inside]) ** 2))
        sizes.append(coder.graphs_built)
    assert errors[1] < errors[0]
    assert sizes == [1, 1]


def test_the_filter_graph_is_rebuilt_only_when_the_map_changes() -> None:
    coder = Coder(bitrate_bps=300_000, rate=10)
    tiles = patches(penalties([BOX], 640, 480, shape=SHAPE), 640, 480, 64)
    frames = scene(6)
    for i, chosen in enumerate([(), (), tiles, tiles, tiles, ()]):
        coder.encode(frames[i], "rgb24", i * STEP, chosen)
    assert (coder.graphs_built, coder.opened) == (3, 1)


def test_another_bit_rate_is_followed_on_the_open_encoder_without_a_key_frame() -> None:
    coder = Coder(bitrate_bps=800_000, rate=10)
    frames = scene(40)
    before = run(coder, frames[:20])
    coder.set_bitrate(200_000)
    after = [u for i, f in enumerate(frames[20:], 20) for u in coder.encode(f, "rgb24", i * STEP, ())]
    assert [key for _, key in before].count(True) == 1
    assert not any(unit.key for unit in after) and coder.opened == 1
    rates = [8 * sum(map(len, part)) for part in ([d for d, _ in before[10:]], [u.data for u in after[10:]])]
    assert rates[1] < 0.45 * rates[0]


def test_a_codec_that_cannot_follow_begins_anew_with_one_key_frame() -> None:
    coder = Coder("vp8", bitrate_bps=400_000, rate=10)
    frames = scene(8)
    run(coder, frames[:4])
    coder.set_bitrate(100_000)
    after = [unit.key for i, f in enumerate(frames[4:], 4) for unit in coder.encode(f, "rgb24", i * STEP, ())]
    assert after == [True, False, False, False]


def test_intra_refresh_renews_the_picture_without_key_frames() -> None:
    coder = Coder(bitrate_bps=300_000, rate=10, refresh_s=1.0)
    assert [key for _, key in run(coder, scene(30))].count(True) == 1


def test_frames_that_were_key_frames_elsewhere_do_not_become_key_frames_here() -> None:
    coder = Coder(bitrate_bps=300_000, rate=10)
    assert [key for _, key in run(coder, scene(5))] == [True, False, False, False, False]
    coder.request_key()
    assert [u.key for u in coder.encode(scene(6)[5], "rgb24", 9 * STEP, ())] == [True]


@pytest.mark.parametrize(("width", "height"), [(1, 1), (17, 33), (641, 479), (240, 854), (15, 400), (3840, 2160)])
def test_any_size_is_encoded_and_decoded(width: int, height: int) -> None:
    coder, decoder = Coder(bitrate_bps=300_000, rate=10), Decoder()
    pixels = np.full((height, width, 3), 90, np.uint8)
    ((data, key),) = run(coder, [pixels])
    (picture,) = decoder.decode(data, key)
    assert picture.shape[0] >= height and picture.shape[1] >= width
    assert abs(int(picture[0, 0, 1]) - 90) <= 3


def test_another_size_in_the_middle_of_a_stream_begins_anew_with_a_key_frame() -> None:
    coder, decoder = Coder(bitrate_bps=300_000, rate=10), Decoder()
    frames = [*scene(3), *scene(3, 320, 240), *scene(3)]
    units = run(coder, frames)
    assert [key for _, key in units] == [True, False, False] * 3
    assert [p.shape[0] for data, key in units for p in decoder.decode(data, key)] == [480] * 3 + [240] * 3 + [480] * 3


def test_times_that_stand_still_or_go_back_are_encoded_all_the_same() -> None:
    coder = Coder(bitrate_bps=300_000, rate=10)
    times = [0, 0, -5 * STEP, 10**18, 3, 4]
    frames = scene(len(times))
    assert sum(len(coder.encode(f, "rgb24", t, ())) for f, t in zip(frames, times, strict=True)) == len(times)


def test_nothing_is_decoded_before_the_first_key_unit() -> None:
    coder, decoder = Coder(bitrate_bps=300_000, rate=10), Decoder()
    units = run(coder, scene(3))
    assert decoder.decode(*units[1]) == []
    assert len(decoder.decode(*units[0])) == 1


def test_noise_instead_of_video_is_refused_by_name() -> None:
    with pytest.raises(VideoError, match="cannot be decoded"):
        Decoder("vp8").decode(bytes(range(200)), True)


def test_an_unknown_codec_is_refused_with_those_there_are() -> None:
    with pytest.raises(VideoError, match="expected one of h264, hevc, vp8, vp9"):
        Coder("h265", bitrate_bps=1)
