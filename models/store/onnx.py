"""Networks in ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from thalweg.models.store.damaged import damaged


def open_session(path: Path, options: Any) -> Any:  # Any: ONNX Runtime has no types
    """An ONNX Runtime session over a file, on the CPU. Raises ModelError where it holds no network."""
    import onnxruntime

    if not path.is_file() or not path.stat().st_size:
        raise damaged(path)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
        raise damaged(path, error) from None
