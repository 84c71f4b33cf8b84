"""From what a user calls a recogniser to an engine that runs it; engines are shared within a process."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from weakref import WeakValueDictionary

from thalweg.models.deployed import Deployed, convert
from thalweg.models.errors import ModelError
from thalweg.models.hub import checkpoints, local_checkpoint
from thalweg.models.nemo_archive import read_nemo
from thalweg.models.recogniser import Recogniser
from thalweg.models.store import default_root

_engines: WeakValueDictionary[tuple[str, int], Recogniser] = WeakValueDictionary()
_lock = threading.Lock()


def load_deployed(model: str) -> Deployed:
    """A folder that `thalweg models convert` wrote, a `.nemo` file, or the name of a checkpoint that was pulled.

    An archive is converted once, beside the model store. Raises ModelError.
    """
    path = local_checkpoint(model) if model in checkpoints() else Path(model).expanduser()
    if path.is_dir():
        return Deployed.load(path)
    if not path.exists():
        what = f"`thalweg models pull {model}`" if model in checkpoints() else "give a folder or a .nemo file"
        raise ModelError(f"recogniser {model!r} is not here: {what}")
    state = path.stat()
    key = hashlib.sha256(f"{path.resolve()} {state.st_size} {state.st_mtime_ns}".encode()).hexdigest()[:16]
    folder = default_root() / "converted" / f"{path.stem}-{key}"
    if not (folder / "model.json").exists():
        convert(read_nemo(path), folder)
    return Deployed.load(folder)


def shared_recogniser(model: str, threads: int = 1) -> Recogniser:
    """The engine of this process for a model: whoever asks for the same one shares its batches and its weights."""
    key = (str(Path(model).expanduser()), threads)
    with _lock:
        engine = _engines.get(key)
        if engine is None:
            engine = _engines[key] = Recogniser(load_deployed(model), threads=threads)
        return engine
