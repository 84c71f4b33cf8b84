"""llama.cpp in this process (through `xllamacpp`, MIT), behind its own HTTP server on loopback.

The server speaks the same protocol as every other one, so there is one client for all of them, and hanging up is how
generation is stopped. Any user and any web page of this machine can connect to loopback: every request needs the key
of this process, and stands below a path that is as secret, so that not even `/health` answers a stranger. llama.cpp
does not look at `Host`, and sends no CORS header where the allowed origin is one that no page has.

Memory. A slot keeps what it has read of the conversation under way: `context` tokens, allocated at the start. Besides,
llama.cpp would keep the prompts of conversations that have lost their slot in RAM, up to 8 GiB, 8 MB for each new
conversation of a small model, and was seen to go on with a stranger's (llama.cpp #27148). `cache_mb` bounds that; by
default it is 0: memory is flat, and a conversation that comes back to a slot taken by another one is read anew. A slot
is gone on with only as far as its tokens are the same, from the first one on.

Threads wait for each other after every operation, some hundred times a token. GCC's OpenMP lets them spin for long, so
that one of them without a core stops all. Here they spin for some microseconds and sleep then (`GOMP_SPINCOUNT`); what
that brings `bench threads` tells. OpenMP hears it as it is loaded, once, so it is said when this module is.

Slots. llama.cpp gives a request the free slot that begins most alike. One that was hung up on is busy for some tens of
milliseconds more: asked again in that time, it would take another slot and read the whole conversation anew,
which takes seconds. So each conversation takes a slot of its own, as long as there are any, and waits for that one.
"""

from __future__ import annotations

import os
import secrets
import threading
from pathlib import Path

from thalweg.models.errors import ModelError
from thalweg.models.store.bounded import read_at_most
from thalweg.models.store.fitting import usable_cores

_MAGIC = b"GGUF"
_SPINS = 500
_MAPS = Path("/proc/self/maps")
# Some are called otherwise, or are not there, from version to version; without any of them the key still holds.
_CLOSED = {
    "hostnames": ["127.0.0.1"],
    "hostname": "127.0.0.1",
    "ui": False,
    "webui": False,
    "cors_origins": "http://no-page-has-this-origin.invalid",
    "cors_credentials": False,
}


class LlamaServer:
    """Serves one GGUF file. `url`: base address of the OpenAI-compatible interface, on loopback; `key`: asked for.

    `slots`: conversations that are answered at the same time, each with `context` tokens of its own; more of them wait.
    `threads`: by default one fewer than there are cores, and at most four; both of two cores where threads wait as
    above.
    `gpu_layers`: how many layers a GPU computes, by default as llama.cpp decides; without one, or with an xllamacpp
    built for none, all stay on the processor.
    Raises ModelError where the file is no model that llama.cpp can read.
    """

    def __init__(
        self,
        model: Path,
        *,
        context: int = 2048,
        threads: int | None = None,
        slots: int = 4,
        cache_mb: int = 0,
        gpu_layers: int | None = None,
    ) -> None:
        _check(model)
        try:
            import xllamacpp
        except ImportError:
            raise ModelError("llama.cpp is missing: pip install 'thalweg[llama]'") from None
        brief = BRIEF and "OPENMP = 1" in xllamacpp.get_system_info()
        self.key = secrets.token_urlsafe(32)
        prefix = f"/{secrets.token_urlsafe(32)}"
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(model)
        parameters.n_ctx = context * slots
        parameters.n_parallel = slots
        parameters.verbosity = -1
        parameters.port = 0
        parameters.api_keys = [self.key]
        parameters.api_prefix = prefix
        parameters.endpoint_slots = False
        for name, value in _CLOSED.items():
            if hasattr(parameters, name):
                setattr(parameters, name, value)
        parameters.cache_ram_mib = cache_mb
        if gpu_layers is not None:
            parameters.n_gpu_layers = gpu_layers
        parameters.cpuparams.n_threads = threads or threads_for(int(usable_cores()), brief=brief)
        parameters.cpuparams_batch.n_threads = parameters.cpuparams.n_threads
        try:
            self._server = xllamacpp.Server(parameters)
        except RuntimeError as error:
            raise ModelError(f"llama.cpp cannot load {model}: {error}") from None
        self.url = f"{self._server.listening_address}{prefix}/v1"
        self._free = list(range(slots))
        self._slots = threading.Lock()

    def take_slot(self) -> int | None:
        """A slot for one conversation; None where all are taken, so that it gets whichever is free. Thread-safe."""
        with self._slots:
            return self._free.pop(0) if self._free else None

    def give_back(self, slot: int) -> None:
        """Its conversation is over. The slot that was used least lately is given to the next. Thread-safe."""
        with self._slots:
            self._free.append(slot)

    def close(self) -> None:
        """Stop serving and free the model. Idempotent."""
        self._server = None


def threads_for(cores: int, *, brief: bool) -> int:
    """How many threads to generate with. `brief`: they do not spin for long while they wait for each other."""
    return min(4, max(1, cores - 1)) if cores != 2 or not brief else 2


def waits_briefly(maps: Path = _MAPS) -> bool:
    """Ask GCC's OpenMP not to let threads spin for long. False where it is loaded already, or the environment says
    otherwise: threads that sleep at once are no faster than one.
    """
    count = os.environ.get("GOMP_SPINCOUNT")
    if count is not None:
        return count.strip().isdecimal() and 0 < int(count) <= 2 * _SPINS
    try:
        loaded = b"/libgomp.so.1" in read_at_most(maps)
    except OSError:  # another system than Linux
        return False
    if loaded or "OMP_WAIT_POLICY" in os.environ:
        return False
    os.environ["GOMP_SPINCOUNT"] = str(_SPINS)
    return True


BRIEF = waits_briefly()
"""Whether threads of this process wait briefly."""


def _check(model: Path) -> None:
    """Say what is wrong with a file; llama.cpp says only that something is."""
    try:
        with model.open("rb") as file:
            begins = file.read(4)
        size = model.stat().st_size
    except OSError as error:
        raise ModelError(f"{model} cannot be read: {error.strerror}") from None
    if begins != _MAGIC:
        raise ModelError(
            f"{model} is not a GGUF file ({size} bytes): it was not fetched whole, or is a link to a large file or a "
            "web page that was saved under its name. Delete it and fetch it again"
        )
