"""Archives of strangers: whatever is in them, the reader's process is harmed and nobody else."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from thalweg.models.errors import ModelError
from thalweg.models.speech.fastconformer.nemo_archive import open_nemo
from thalweg.models.store.confined import confined

pytestmark = pytest.mark.real

CONFIG = {
    "target": "a.EncDecCTCModelBPE",
    "labels": ["a", "b"],
    "encoder": {
        "_target_": "nemo.collections.asr.modules.ConformerEncoder",
        "subsampling": "dw_striding",
        "subsampling_factor": 8,
        "causal_downsampling": True,
        "att_context_style": "chunked_limited",
        "att_context_size": [70, 13],
        "conv_context_size": "causal",
        "feat_in": 80,
        "d_model": 8,
        "n_layers": 1,
        "n_heads": 2,
    },
    "preprocessor": {
        "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor",
        "normalize": "NA",
        "features": 80,
    },
}


def config(section: str = "", key: str = "", value: object = None) -> bytes:
    changed = yaml.safe_load(yaml.safe_dump(CONFIG))
    if key:
        (changed[section] if section else changed)[key] = value
    return yaml.safe_dump(changed).encode()


def weights(pickled: bytes, storages: dict[str, bytes] | None = None) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", pickled)
        for key, content in (storages or {}).items():
            archive.writestr(f"a/data/{key}", content)
    return out.getvalue()


EMPTY = weights(pickle.dumps({}, 2))


def nemo(settings: bytes = b"", ckpt: bytes = EMPTY) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in (("model_config.yaml", settings or config()), ("model_weights.ckpt", ckpt)):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def header(name: str, size: int, kind: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def bomb(kind: bytes) -> bytes:
    """A header that goes on for 2.5 GB, packed small."""
    out = io.BytesIO()
    with gzip.open(out, "wb", compresslevel=1) as packed:
        packed.write(header("x", 2_500_000_000, kind))
        block = bytes(1 << 22)
        for _ in range(600):
            packed.write(block)
    return out.getvalue()


def sparse() -> bytes:
    """A kilobyte that says it is 8 GB."""
    info = tarfile.TarInfo("model_weights.ckpt")
    info.type = tarfile.GNUTYPE_SPARSE
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[386:398] = block[398:410] = b"%011o\0" % 0
    block[482] = 0
    block[483:495] = b"%011o\0" % (8**11 - 1)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    settings = config()
    padded = settings + bytes(-len(settings) % 512)
    return header("model_config.yaml", len(settings), b"0") + padded + bytes(block) + bytes(1024)


def global_name(module: str, name: str) -> bytes:
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n"


def storage(kind: str, key: str, count: int) -> bytes:
    text = struct.pack("<I", len(key)) + key.encode()
    return (
        b"(X\x07\x00\x00\x00storage" + global_name("torch", kind) + b"X" + text
        + b"X\x03\x00\x00\x00cpuJ" + struct.pack("<i", count) + b"tQ"
    )  # fmt: skip


def out_of_bounds() -> bytes:
    """A stride that is a number of 64 bits with no dimension: sums with it overflow, and reach outside."""
    rebuild = global_name("torch._utils", "_rebuild_tensor_v2")

    def scalar(key: str) -> bytes:
        return rebuild + b"(" + storage("LongStorage", key, 1) + b"K\x00)" + b")tR"

    tensor = rebuild + b"(" + storage("DoubleStorage", "d", 8) + b"K\x00"
    pickled = b"\x80\x02}X\x01\x00\x00\x00w" + tensor + scalar("n") + b"\x85" + scalar("s") + b"\x85tRs."
    return weights(pickled, {"d": bytes(64), "n": struct.pack("<q", 5), "s": struct.pack("<q", 2**61 + 8)})


def references(depth: int) -> bytes:
    lines = ["a0: &a0 [1,1,1,1,1,1,1,1]"]
    lines += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 8)}]" for i in range(1, depth)]
    return "\n".join(lines).encode()


HOSTILE: dict[str, Callable[[], bytes]] = {
    "a billion layers": lambda: nemo(config("encoder", "n_layers", 10**9)),
    "a tokenizer that is a text": lambda: nemo(config("", "tokenizer", "bpe")),
    "an infinite window": lambda: nemo(config("preprocessor", "window_size", float("inf"))),
    "a window that is a text": lambda: nemo(config("preprocessor", "window_size", "a" * 10)),
    "a guard that is a list": lambda: nemo(config("preprocessor", "log_zero_guard_value", [1])),
    "heads that are true": lambda: nemo(config("encoder", "n_heads", True)),
    "lists twenty thousand deep": lambda: nemo(b"[" * 20_000),
    "a billion values by reference": lambda: nemo(references(11)),
    "a list that contains itself": lambda: nemo(b"&a {target: x, b: *a}"),
    "merge keys that multiply": lambda: nemo(
        (
            "a0: &a0 {"
            + ",".join(f"k{j}: 1" for j in range(200))
            + "}\n"
            + "".join(f"a{i}: &a{i} {{<<: [{','.join([f'*a{i - 1}'] * 8)}]}}\n" for i in range(1, 9))
        ).encode()
    ),
    "four megabytes of settings": lambda: nemo(b"a: [" + b"1," * 2_000_000 + b"1]"),
    "a pax header of 2.5 GB": lambda: bomb(b"x"),
    "a name of 2.5 GB": lambda: bomb(b"L"),
    "a sparse file of 8 GB": sparse,
    "os.system": lambda: nemo(b"", weights(global_name("os", "system") + b'(S"false"\ntR.')),
    "builtins.eval": lambda: nemo(b"", weights(b'\x80\x04\x8c\x08builtins\x8c\x04eval\x93(S"1"\ntR.')),
    "an attribute of an attribute": lambda: nemo(
        b"", weights(b"\x80\x04\x8c\x05torch\x8c\x13FloatStorage.__cls__\x93.")
    ),
    "a memo of 100 million": lambda: nemo(b"", weights(b"\x80\x02}r" + struct.pack("<I", 100_000_000) + b".")),
    "a memo of two billion": lambda: nemo(b"", weights(b"\x80\x02}r" + struct.pack("<I", 2**31 - 1) + b".")),
    "a byte array of 2 GB": lambda: nemo(b"", weights(b"\x80\x05\x96" + struct.pack("<Q", 2_000_000_000) + b".")),
    "marks a million deep": lambda: nemo(b"", weights(b"\x80\x02" + b"(" * 900_000 + b".")),
    "tuples a million deep": lambda: nemo(b"", weights(b"\x80\x02})" + b"\x85" * 900_000 + b"K\x01s.")),
    "a tensor outside its storage": lambda: nemo(b"", out_of_bounds()),
    "nothing": lambda: b"",
    "noise": lambda: bytes(range(256)) * 40,
    "a web page": lambda: b"<!DOCTYPE html><html><body>Not found</body></html>",
    "a pointer to large files": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_archive_is_refused_in_a_sentence_of_bounded_length(
    content: Callable[[], bytes], tmp_path: Path
) -> None:
    path = tmp_path / "a.nemo"
    path.write_bytes(content())
    with pytest.raises(ModelError) as caught:
        open_nemo(path)
    assert 10 < len(str(caught.value)) < 600
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("what", ["missing", "folder"])
def test_what_is_no_file_is_refused_before_anything_starts(what: str, tmp_path: Path) -> None:
    path = tmp_path / "a.nemo"
    if what == "folder":
        path.mkdir()
    with pytest.raises(ModelError, match="does not exist" if what == "missing" else "is no file"):
        open_nemo(path)


def hang(path: Path, out: Path) -> None:
    """Never comes back."""
    while True:
        pass


def crash(path: Path, out: Path) -> None:
    """Takes its process with it."""
    os.abort()


def greedy(path: Path, out: Path) -> None:
    """Takes all there is."""
    held = []
    while True:
        held.append(bytearray(1 << 26))


@pytest.mark.parametrize(
    ("reader", "message"),
    [("hang", "cannot be read within 2 s"), ("crash", "its reader crashed"), ("greedy", "wants more than 1024 MiB")],
)
def test_whatever_becomes_of_the_reader_the_parent_says_so_and_goes_on(
    reader: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.nemo"
    path.write_bytes(b"x")
    with pytest.raises(ModelError, match=message):
        confined(f"{__name__}:{reader}", path, tmp_path, memory=1 << 30, seconds=2.0 if reader == "hang" else 30.0)
