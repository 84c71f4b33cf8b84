"""The backend that the parameters of `language.chat` describe, and whether words stay on this machine with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thalweg.models.http.address import Address
from thalweg.models.language.backend import Backend, BackendError, ErrorKind
from thalweg.models.language.registry import make
from thalweg.stages.language.model import LanguageModelError
from thalweg.stages.language.pool.pool import Member, Pool, PoolPolicy


def backend_of(
    backend: str | Backend | None,
    backends: Mapping[str, Member] | None,
    policy: PoolPolicy | None,
    options: Mapping[str, Any],
    given: Mapping[str, Any],
) -> Backend:
    """`given`: the parameters that most backends have. Raises LanguageModelError."""
    images = given.get("images", False)
    if backends is not None and (backend is not None or given["url"] or images):
        raise LanguageModelError("`backends` stands in place of `backend`, `url` and `images`: give one or the others")
    try:
        if backends is not None:
            return Pool(backends, policy or PoolPolicy(), {"threads": given["threads"], "retries": 0})
        made = make(_kind(backend, given), options, given) if backend is None or isinstance(backend, str) else backend
    except BackendError as error:
        raise LanguageModelError(str(error), error.kind) from None
    if images and not made.abilities.images:
        raise LanguageModelError(f"`images: true`, and {made.name} looks at none", ErrorKind.SETTINGS)
    return made


def stays_here(backend: str | Backend | None, options: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    """Whether words that a backend is asked with stay on this machine; of one of another package that is not known."""
    kind, url = _kind(backend, given), str(options.get("url", given["url"]))
    return kind in ("llamacpp", "echo") or (kind == "openai" and bool(url) and Address.parse(url).loopback)


def _kind(backend: str | Backend | None, given: Mapping[str, Any]) -> str:
    if backend is None:
        return "openai" if given["url"] else "llamacpp"
    return backend if isinstance(backend, str) else ""
