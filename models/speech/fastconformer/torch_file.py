"""Reads the weights that `torch.save` wrote, without torch and without running anything that the file says.

The format (torch ≥ 1.6) is a zip file: `NAME/data.pkl` is a pickle of the tensors' descriptions, `NAME/data/KEY` holds
the bytes of each storage. A pickle is a program; this one may name nothing but the handful of constructors below,
and gets our own harmless versions of them.
"""

from __future__ import annotations

import io
import math
import operator
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from thalweg.models.errors import ModelError

Weights = dict[str, NDArray[np.float32]]
_MAX_DESCRIPTION = 64 << 20
_MAX_BYTES = 16 << 30
_MAX_DIMENSIONS = 32
_MAX_UNPACKED = 64
"""How many times larger than the file its content may be: weights hardly pack at all."""
_DTYPES: dict[str, Any] = {
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": np.uint16,  # the upper half of a float32
    "DoubleStorage": np.float64,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str


class _Reader(pickle.Unpickler):
    def __init__(self, description: bytes, load: Callable[[str, str, int], NDArray[Any]]) -> None:
        super().__init__(io.BytesIO(description))
        self._load_storage = load

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _parameter
        if module == "torch" and name in _DTYPES:
            return _Kind(name)
        raise ModelError(f"the weights name {module}.{name}, which is no tensor: not loaded")

    def persistent_load(self, pid: Any) -> NDArray[Any]:
        match pid:
            case ("storage", _Kind(name), str(key), _, int(count)):
                return self._load_storage(name, key, count)
        raise ModelError("the weights refer to something that is no storage of numbers")


def read_weights(file: IO[bytes]) -> Weights:
    """Every tensor of a state dict by name, as float32. Raises ModelError on anything else."""
    try:
        with zipfile.ZipFile(file) as archive:
            return _read(archive, file.seek(0, io.SEEK_END))
    except (zipfile.BadZipFile, pickle.UnpicklingError, EOFError, KeyError, OSError) as error:
        raise ModelError(f"the weights cannot be read, the file is truncated or not torch's: {error}") from None
    except (AttributeError, IndexError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ModelError(f"the weights are not a table of tensors: {error}") from None


def _read(archive: zipfile.ZipFile, size: int) -> Weights:
    members = {info.filename: info for info in archive.infolist()}
    most = min(_MAX_BYTES, (1 << 20) + size * _MAX_UNPACKED)
    if sum(info.file_size for info in members.values()) > most:
        raise ModelError(f"the weights unpack to more than {most >> 20} MiB, from {size} bytes")
    descriptions = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(descriptions) != 1:
        raise ModelError("the weights hold no data.pkl: not written by torch.save of 1.6 or later")
    if members[descriptions[0]].file_size > _MAX_DESCRIPTION:
        raise ModelError("the description of the weights is implausibly long")
    folder = descriptions[0].removesuffix("data.pkl")
    loaded: dict[str, NDArray[Any]] = {}

    def load(kind: str, key: str, count: int) -> NDArray[Any]:
        if key not in loaded:
            loaded[key] = np.frombuffer(archive.read(f"{folder}data/{key}"), _DTYPES[kind])
            if kind == "BFloat16Storage":
                loaded[key] = (loaded[key].astype(np.uint32) << 16).view(np.float32)
        if len(loaded[key]) < count:
            raise ModelError(f"storage {key} of the weights holds {len(loaded[key])} numbers, not {count}")
        return loaded[key]

    table = _Reader(archive.read(descriptions[0]), load).load()
    if not isinstance(table, dict):
        raise ModelError(f"the weights are a {type(table).__name__}, not a table of tensors")
    if isinstance(table.get("state_dict"), dict):
        table = table["state_dict"]
    if sum(4 * tensor.size for tensor in table.values() if isinstance(tensor, np.ndarray)) > _MAX_BYTES:
        raise ModelError(f"the weights hold more than {_MAX_BYTES >> 30} GiB of numbers")
    return {str(name): _float32(name, tensor) for name, tensor in table.items()}


def _float32(name: str, tensor: Any) -> NDArray[np.float32]:
    if not isinstance(tensor, np.ndarray):
        raise ModelError(f"weight {name} is a {type(tensor).__name__}, not a tensor")
    return np.array(tensor, np.float32)


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> NDArray[Any]:
    """A view of a storage. Numbers are made Python's own first: what merely acts like one may overflow in the sums."""
    if not isinstance(storage, np.ndarray) or storage.ndim != 1:
        raise ModelError("a tensor of the weights has no storage")
    sizes, steps, start = _numbers(shape), _numbers(stride), operator.index(offset)
    if len(sizes) != len(steps) or len(sizes) > _MAX_DIMENSIONS or start < 0 or min(sizes + steps, default=0) < 0:
        raise ModelError("a tensor of the weights has an impossible shape")
    last = start + sum((n - 1) * s for n, s in zip(sizes, steps, strict=True)) if all(sizes) else start
    if last >= max(1, len(storage)):
        raise ModelError("a tensor of the weights reaches beyond its storage")
    if math.prod(sizes) > max(1, len(storage)):
        raise ModelError("a tensor of the weights is larger than its storage")
    strides = tuple(s * storage.itemsize for s in steps)
    return np.lib.stride_tricks.as_strided(storage[start:], sizes, strides, writeable=False)


def _numbers(values: Any) -> tuple[int, ...]:
    if not isinstance(values, tuple) or not all(type(value) is int for value in values):
        raise ModelError("a tensor of the weights has a shape that is no row of numbers")
    return values


def _parameter(tensor: NDArray[Any], *_: Any) -> NDArray[Any]:
    return tensor
