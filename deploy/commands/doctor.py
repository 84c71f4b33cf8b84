"""`thalweg doctor`: what this machine can run, and what is missing for the rest."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Sequence

from rich.table import Table

from thalweg import __version__
from thalweg.deploy.console import Console
from thalweg.models import ModelStore
from thalweg.models.vision.ocr import PACKAGE as TEXT_READER
from thalweg.pipeline.file.catalog import installed_stages
from thalweg.transports.shm.support import missing

CAPABILITIES = (
    ("audio files", "av", "audio"),
    ("voice activity", "onnxruntime", "vad"),
    ("speech recognition (Whisper)", "ctranslate2", "whisper"),
    ("speech recognition (PocketSphinx)", "pocketsphinx", "sphinx"),
    ("streaming recognition (FastConformer)", "onnxruntime", "asr"),
    ("language model servers", "httpx", "language"),
    ("embedded language model", "xllamacpp", "llama"),
    ("speech synthesis (Piper)", "piper-tts", "piper"),
    ("microphone, loudspeaker", "sounddevice", "microphone"),
    ("conversations over WebRTC", "aiortc", "webrtc"),
    ("web server", "aiohttp", "webrtc"),
    ("timeline pictures", "matplotlib", "plot"),
    ("Prometheus metrics", "prometheus-client", "metrics"),
    ("OpenTelemetry spans", "opentelemetry-api", "otel"),
    ("edges between hosts", "grpcio", "grpc"),
    ("workers on a Ray cluster", "ray", "ray"),
    ("video", "opencv-python", "video"),
    ("reading in pictures", TEXT_READER, "video"),
    ("converting recognisers", "onnx", "convert"),
    ("training", "torch", "train"),
    ("NeMo's own recognisers", "nemo-toolkit", "nemo"),
)
_MODULES = {"grpc": "grpcio", "cv2": "opencv-python"}
"""Packages whose module has another name."""
_COMMANDS = {"hub": "hub", "node": "edge"}
"""Extras of commands that need more than one package."""
_DEMO = {"asr", "audio", "vad", "whisper", "language", "llama", "piper"}
"""Extras without which `make demo` does not run."""


def examine() -> int:
    """Print the findings; returns 1 where the demo could not run."""
    console = Console()
    console.say(f"thalweg {__version__}, Python {platform.python_version()}, {platform.platform()}")
    if note := _platform():
        console.say(note)
    console.say(f"{os.cpu_count()} CPUs, {_memory_gib():.0f} GiB memory, {_free_gib():.0f} GiB free for models")
    table = Table(box=None, pad_edge=False)
    for column in ("can do", "with", "version", "missing? then"):
        table.add_column(column)
    lacking = []
    for capability, package, extra in CAPABILITIES:
        version = _version(package)
        if not version:
            lacking.append(extra)
        table.add_row(capability, package, version or "–", "" if version else f"pip install 'thalweg[{extra}]'")
    console.print(table)
    for why in installed_stages()[1].values():
        console.say(("broken: ", "bold"), why, "; install again, or remove, the package that brings it")
    if "microphone" not in lacking:
        console.say(f"microphone: {_microphones()}")
    for held in ModelStore().list():
        remedy = "install thalweg again" if held.model.bundled else f"thalweg models pull {held.model.name}"
        state = "here" if held.complete else f"not here: {remedy}"
        console.say(f"model {held.model.name}: {state}")
    return int(bool(set(lacking) & _DEMO))


def extra_with(module: str, arguments: Sequence[str]) -> str:
    """The extra that brings a module which a command lacks; empty where none is known to."""
    if found := next((extra for name, extra in _COMMANDS.items() if name in arguments), ""):
        return found
    package = _MODULES.get(module, module.replace("_", "-"))
    return next((extra for _, known, extra in CAPABILITIES if known == package), "")


def _platform() -> str:
    """What does not work on this system; empty on one that is tested."""
    if absent := missing():
        return (
            f"not Linux ({absent} is not here): `run`, `serve` and Python work, edges between processes use gRPC "
            "(pip install 'thalweg[grpc]'); `up` does not"
        )
    machine = platform.machine().lower()
    return "" if machine in ("x86_64", "amd64") else f"{machine}: only x86-64 is tested"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _microphones() -> str:
    try:
        import sounddevice

        inputs = [d["name"] for d in sounddevice.query_devices() if d["max_input_channels"] > 0]
    except Exception as error:  # any error of PortAudio is a finding and no failure
        return f"{error}; on Debian: apt-get install libportaudio2"
    return ", ".join(inputs) or "no recording device"


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _free_gib() -> float:
    folder = ModelStore().root
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free / 2**30
