"""The encoder in a stream: its graph, the caches of all streams, and one step of any number of them.

Caches lie in one array per kind with a slot for each stream. A batch whose slots are neighbours is handed to the
graph as it lies there, without a copy; any other is gathered first. Slots are given out from the lowest on, so that
few streams stay close together.

Theory of a step. Encoder frame k sees mel frames up to 8k, so the first chunk of C frames needs 8C − 7 of them and
every other one 8C. The first is filled up in front with seven frames that do not exist, and all chunks are alike:
`lead` counts frames before the beginning, and masks keep both ends of the utterance at zero between convolutions, as
the padding of a whole utterance would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.models.errors import ModelError
from thalweg.models.speech.fastconformer.config import SUBSAMPLING
from thalweg.models.speech.fastconformer.deployed import Deployed

Floats = NDArray[np.float32]
LEAD = SUBSAMPLING - 1
_HIDDEN = np.float32(-1e4)
_GROWTH = 2


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next piece of one stream. `mel` [≤ 8C − lead, mel]; `frames`: encoder frames so far; `lead`: 7 or 0."""

    slot: int
    mel: Floats
    frames: int
    lead: int


@dataclass(frozen=True, slots=True)
class Encoded:
    """What came of a chunk: one row per frame, [n, …]; `ctc` and `joint` only where they were asked for."""

    encoded: Floats
    ctc: Floats | None
    joint: Floats | None


class StreamingEncoder:
    """Runs steps of up to `max_streams` streams. Not thread-safe: its owner takes turns."""

    def __init__(self, model: Deployed, *, threads: int = 1, max_streams: int = 256) -> None:
        self.config = model.config
        self.max_streams = max_streams
        self._session = model.session("encoder", threads)
        self._options = _run_options()
        self._free: list[int] = []
        self._caches: dict[str, Floats] = {}
        self._size = 0

    @property
    def stream_bytes(self) -> int:
        """What the caches of one stream take."""
        return sum(4 * int(np.prod(shape)) for shape in self._shapes(1).values())

    @property
    def allocated_bytes(self) -> int:
        """What all caches take, free slots included."""
        return sum(cache.nbytes for cache in self._caches.values())

    @property
    def open_streams(self) -> int:
        """How many slots are taken."""
        return self._size - len(self._free)

    def take_slot(self) -> int:
        """A slot of zeros. Raises ModelError where `max_streams` are open."""
        if not self._free:
            self._grow()
        slot = min(self._free)
        self._free.remove(slot)
        for name, cache in self._caches.items():
            cache[_at(name, slot)] = 0
        return slot

    def give_back(self, slot: int) -> None:
        """The stream has ended: its slot may be taken by another."""
        assert slot not in self._free
        self._free.append(slot)
        if len(self._free) == self._size:
            self._free.clear()
            self._caches.clear()
            self._size = 0

    def snapshot(self, slot: int) -> dict[str, Floats]:
        """A copy of the caches of one stream."""
        return {name: cache[_at(name, slot)].copy() for name, cache in self._caches.items()}

    def restore(self, slot: int, state: dict[str, Floats]) -> None:
        """Put caches back, into any slot of any encoder of the same model. Raises ModelError where they do not fit."""
        for name, cache in self._caches.items():
            place, kept = cache[_at(name, slot)], np.asarray(state.get(name, ()))
            if kept.shape != place.shape:
                raise ModelError(f"a snapshot of another model: cache {name} is {kept.shape}, expected {place.shape}")
            place[...] = kept

    def step(self, chunks: Sequence[Chunk], lookahead: int, outputs: Sequence[str] = ("encoded",)) -> list[Encoded]:
        """Run one chunk of each stream, all with the same look-ahead; caches move on. Order is kept.

        A chunk shorter than 8C − lead is the end of its utterance: its frames come out, and its caches are spent.
        """
        order = sorted(range(len(chunks)), key=lambda i: chunks[i].slot)
        batch = [chunks[i] for i in order]
        size = lookahead + 1
        feeds, counts = self._feeds(batch, size)
        new = ("new_k", "new_v", "new_conv", "new_column0", "new_column1", "new_column2")
        found = self._session.run([*new, *outputs], feeds, self._options)
        layers = self.config.layers
        layered = {name: f.reshape(layers, -1, *f.shape[1:]) for name, f in zip(new[:3], found[:3], strict=True)}
        self._write(batch, layered | dict(zip(new[3:], found[3:], strict=False)), size)
        rows = dict(zip(outputs, found[len(new) :], strict=True))
        results: list[Encoded | None] = [None] * len(chunks)
        for b, (i, n) in enumerate(zip(order, counts, strict=True)):
            part = {name: rows[name][b, :n] for name in outputs}
            results[i] = Encoded(part.get("encoded", np.zeros((0, 0), np.float32)), part.get("ctc"), part.get("joint"))
        return [result for result in results if result is not None]

    def _feeds(self, batch: Sequence[Chunk], size: int) -> tuple[dict[str, Any], list[int]]:
        b, left, config = len(batch), self.config.left, self.config
        mel = np.zeros((b, SUBSAMPLING * size, config.mel.n_mels), np.float32)
        masks = [np.zeros((b, 1, SUBSAMPLING // 2**i * size, 1), np.float32) for i in (1, 2)]
        hidden = np.zeros((b, 1, 1, left + size), np.float32)
        rows = np.empty((b, size, left + size), np.int64)
        query = np.arange(size)[:, None]
        counts = []
        for i, chunk in enumerate(batch):
            start, end = chunk.lead, chunk.lead + len(chunk.mel)
            mel[i, start:end] = chunk.mel
            for mask in masks:
                start, end = start // 2, (end + 1) // 2
                mask[i, 0, start:end] = 1
            counts.append((end + 1) // 2)
            age = (chunk.frames - 1 - np.arange(left)) % left  # of what lies in each slot of the ring
            rows[i, :, :left] = query + 1 + age
            rows[i, :, left:] = query - np.arange(size)
            hidden[i, 0, 0, :left][age >= chunk.frames] = _HIDDEN
            hidden[i, 0, 0, left + counts[-1] :] = _HIDDEN
        np.subtract(left + max(config.lookaheads), rows, out=rows)
        feeds = {"mel": mel, "mask1": masks[0], "mask2": masks[1], "rows": rows, "hidden": hidden}
        feeds["taps"] = query + np.arange(config.kernel)
        slots = [chunk.slot for chunk in batch]
        together = slots[-1] - slots[0] == b - 1
        where: Any = slice(slots[0], slots[-1] + 1) if together else slots
        for name in ("column0", "column1", "column2"):
            feeds[name] = self._caches[name][where]
        feeds["conv"] = np.ascontiguousarray(self._caches["conv"][:, where])
        for layer in range(config.layers):
            for name in ("k", "v"):
                cache = self._caches[name][layer]
                feeds[f"{name}{layer}"] = cache[where] if together else cache.take(slots, axis=0)
        return feeds, counts

    def _write(self, batch: Sequence[Chunk], new: dict[str, Floats], size: int) -> None:
        left = self.config.left
        for b, chunk in enumerate(batch):
            at = chunk.frames % left
            first = min(size, left - at)
            for name in ("k", "v"):
                ring = self._caches[name][:, chunk.slot]
                ring[:, :, at : at + first] = new[f"new_{name}"][:, b, :, :first]
                if first < size:
                    ring[:, :, : size - first] = new[f"new_{name}"][:, b, :, first:]
            self._caches["conv"][:, chunk.slot] = new["new_conv"][:, b]
            for name in ("column0", "column1", "column2"):
                self._caches[name][chunk.slot] = new[f"new_{name}"][b]

    def _shapes(self, size: int) -> dict[str, tuple[int, ...]]:
        config = self.config
        bands, channels = (config.mel.n_mels, *config.subsampled_bands), config.subsampling_width
        ring = (config.layers, size, config.heads, config.left, config.head_width)
        columns = {f"column{i}": (size, 1 if i == 0 else channels, 1, bands[i]) for i in range(3)}
        return {"k": ring, "v": ring, "conv": (config.layers, size, config.kernel - 1, config.width)} | columns

    def _grow(self) -> None:
        """Twice the slots, at most `max_streams`."""
        size = min(self.max_streams, max(1, self._size * _GROWTH))
        if size == self._size:
            raise ModelError(f"{self.max_streams} streams are open, no more fit: close one or raise max_streams")
        for name, shape in self._shapes(size).items():
            grown = np.zeros(shape, np.float32)
            if self._size:
                grown[_at(name, slice(self._size))] = self._caches[name]
            self._caches[name] = grown
        self._free += range(self._size, size)
        self._size = size


def _at(name: str, slot: int | slice) -> Any:
    """Where a slot lies: after the layer, where there is one."""
    return slot if name.startswith("column") else (slice(None), slot)


def _run_options() -> Any:
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.only_execute_path_to_fetches = True  # heads that were not requested are not computed
    return options
