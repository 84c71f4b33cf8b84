"""Networks, their loaders, and the store that fetches weights. Nothing here knows of packets or stages.

Loaders take and give numpy arrays and import what they need when they are built, so that the store alone
needs no more than PyYAML. ONNX Runtime, which from 1.29 on tells its makers of every session, is told not to: here,
since it asks once, before it is loaded, and all that loads it lies below. ORT_DISABLE_TELEMETRY=0 lets it.
"""

import os

from thalweg.models.errors import ModelError
from thalweg.models.store.registry import Model, ModelFile, Registry, Source
from thalweg.models.store.store import Held, ModelStore

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = ["Held", "Model", "ModelError", "ModelFile", "ModelStore", "Registry", "Source"]
