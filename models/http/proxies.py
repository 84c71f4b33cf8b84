"""Proxies of the environment: used for other machines, never for this one, and said where they cannot be used."""

from __future__ import annotations

import urllib.request
from collections.abc import Mapping

from thalweg.models.http.address import Address


def proxy_variable(address: Address, environ: Mapping[str, str]) -> str | None:
    """The variable that names a proxy for `address`; None where it is asked directly."""
    if address.loopback:
        return None
    bypassed = {"no": environ.get("no_proxy") or environ.get("NO_PROXY") or ""}
    where = f"{address.host}:{address.port}"
    if urllib.request.proxy_bypass_environment(where, bypassed):  # type: ignore[attr-defined]  # not in typeshed
        return None
    for scheme in (address.scheme, "all"):
        for name in (f"{scheme}_proxy", f"{scheme.upper()}_PROXY"):
            if environ.get(name):
                return name
    return None
