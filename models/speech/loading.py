"""From what a user calls a recogniser to an engine that runs it; engines are shared within a process."""

from __future__ import annotations

import hashlib
import threading
from weakref import WeakValueDictionary

from thalweg.models.errors import ModelError
from thalweg.models.speech.fastconformer.deployed import DESCRIPTION, Deployed, convert
from thalweg.models.speech.fastconformer.nemo_archive import open_nemo
from thalweg.models.speech.recogniser import Recogniser
from thalweg.models.store.fetching.hub import checkpoints, local_checkpoint
from thalweg.models.store.home import expanded
from thalweg.models.store.store import ModelStore, default_root, locked

_engines: WeakValueDictionary[tuple[str, int], Recogniser] = WeakValueDictionary()
_lock = threading.Lock()


def recognisers(store: ModelStore | None = None) -> tuple[str, ...]:
    """The names of the registry that `load_deployed` takes: models whose files are a deployed recogniser's."""
    models = (store or ModelStore()).registry.models
    return tuple(name for name, model in models.items() if any(file.name == DESCRIPTION for file in model.files))


def load_deployed(model: str, store: ModelStore | None = None) -> Deployed:
    """By a name of the registry (bundled, or fetched now), the name of a checkpoint that was pulled, the folder that
    `thalweg models convert` wrote, or a `.nemo` file.

    An archive is converted once, beside the model store. Raises ModelError.
    """
    store = store or ModelStore()
    if model in recognisers(store):
        return Deployed.load(store.folder(model))
    path = local_checkpoint(model) if model in checkpoints() else expanded(model)
    if path.is_dir():
        return Deployed.load(path)
    if not path.exists():
        if model in checkpoints():
            raise ModelError(f"recogniser {model!r} is not here: `thalweg models pull {model}`")
        raise ModelError(f"recogniser {model!r} is not here: {_known(store)}")
    state = path.stat()
    key = hashlib.sha256(f"{path.resolve()} {state.st_size} {state.st_mtime_ns}".encode()).hexdigest()[:16]
    folder = default_root() / "converted" / f"{path.stem}-{key}"
    if not (folder / DESCRIPTION).exists():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with locked(folder.with_name(folder.name + ".lock")):
                if not (folder / DESCRIPTION).exists():
                    convert(open_nemo(path), folder)
        except OSError as error:
            raise ModelError(
                f"{path} cannot be converted into {folder}: {error.strerror}; name another folder in THALWEG_CACHE"
            ) from None
    return Deployed.load(folder)


def _known(store: ModelStore) -> str:
    names = ", ".join(recognisers(store))
    ready = f"ready to use: {names}" if names else "none is bundled"
    return f"{ready}; to pull: {', '.join(checkpoints())}; or give a folder of `thalweg models convert` or a .nemo file"


def shared_recogniser(model: str, threads: int = 1) -> Recogniser:
    """The engine of this process for a model. Callers with the same `model` and `threads` share batches and weights."""
    key = (str(expanded(model)), threads)
    with _lock:
        engine = _engines.get(key)
        if engine is None:
            engine = _engines[key] = Recogniser(load_deployed(model), threads=threads)
        return engine
