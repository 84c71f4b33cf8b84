"""Networks in ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from thalweg.models.store.damaged import damaged


def open_session(path: Path, options: Any, network: bytes = b"") -> Any:  # Any: ONNX Runtime has no types
    """An ONNX Runtime session over a file, or over the part of it given, on the CPU. Raises ModelError where there is
    no network.
    """
    import onnxruntime

    if not path.is_file() or not path.stat().st_size:
        raise damaged(path)
    try:
        return onnxruntime.InferenceSession(network or str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
        raise damaged(path, error) from None
