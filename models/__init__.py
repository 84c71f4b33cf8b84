"""Networks, their loaders, and the store that fetches weights. Nothing here knows of packets or stages.

Loaders take and give numpy arrays and import what they need when they are built, so that the store alone
needs no more than PyYAML.
"""

from thalweg.models.errors import ModelError
from thalweg.models.store.registry import Model, ModelFile, Registry, Source
from thalweg.models.store.store import Held, ModelStore

__all__ = ["Held", "Model", "ModelError", "ModelFile", "ModelStore", "Registry", "Source"]
