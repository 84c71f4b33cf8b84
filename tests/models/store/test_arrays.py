"""Archives of arrays that strangers made."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from thalweg.models.senses.packs import Pack
from thalweg.models.senses.samples import SampleError
from thalweg.models.store.arrays import read_arrays


def head(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def array(values: object) -> bytes:
    out = io.BytesIO()
    np.save(out, np.array(values))
    return out.getvalue()


def shaped(kind: str, shape: str) -> bytes:
    return head(f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n")


ABOUT = array(json.dumps({"tracks": {"a": {"tick_ns": 1, "join": "pick"}}}))
HOSTILE = {
    "a shape of a terabyte": {"about.npy": shaped("<f8", "(10**12,)".replace("10**12", str(10**12)))},
    "a shape below zero": {"about.npy": shaped("<f8", "(-1,)")},
    "a head without end": {"about.npy": head("(" * 9000 + "\n")},
    "a pickle": {"about.npy": shaped("|O", "()") + b"cos\nsystem\n(S'id'\ntR."},
    "a list for a description": {"about.npy": array(["a"]), "labels.npy": array(["a"])},
    "brackets without end": {"about.npy": array("[" * 100_000)},
    "ticks of one dimension": {"about.npy": ABOUT, "labels.npy": array(["a"]), "a.npy": array([1, 2])},
}


@pytest.mark.parametrize("members", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_pack_is_refused_with_its_own_error(members: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "pack.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    with pytest.raises(SampleError):
        Pack(path)


def test_what_is_no_archive_is_no_pack(tmp_path: Path) -> None:
    path = tmp_path / "pack.npz"
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(SampleError):
        Pack(path)


def test_an_archive_that_unpacks_to_a_thousand_times_its_size_is_refused_before_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thalweg.models.store.arrays._FREE", 0)
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, a=np.zeros(1_000_000, np.uint8))
    with pytest.raises(ValueError, match="unpacks to"):
        read_arrays(path)
