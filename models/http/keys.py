"""Which key may be sent where. A pipeline file names an address and a variable; neither is enough to get a key out.

    the variable is                          its key is sent
    bound by the operator, THALWEG_KEYS      where it says, and nowhere else
    one of a provider (`PROVIDERS`)          to that provider by https; to this machine
    named by the file, …_API_KEY and such    to the address of the file by https; to this machine
    anything else (AWS_SECRET_ACCESS_KEY)    nowhere: refused
    not named, so OPENAI_API_KEY             as one of a provider; elsewhere the server is asked without a key

`THALWEG_KEYS="MY_API_KEY=https://llm.example.com OTHER_TOKEN=http://fog:8000"` binds: names and addresses, between
blanks or commas; only scheme, host and port of the address count. Where it is set, it is all there is: variables that
it does not name are sent to this machine at most. http beyond this machine is possible only so, since everybody on the
way can read it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from thalweg.models.http.address import Address
from thalweg.models.http.errors import HttpError, HttpErrorKind, quoted

BINDING = "THALWEG_KEYS"
DEFAULT = "OPENAI_API_KEY"
PROVIDERS = {
    "OPENAI_API_KEY": ("api.openai.com",),
    "ANTHROPIC_API_KEY": ("api.anthropic.com",),
    "AZURE_OPENAI_API_KEY": (".openai.azure.com", ".services.ai.azure.com"),
    "CEREBRAS_API_KEY": ("api.cerebras.ai",),
    "COHERE_API_KEY": ("api.cohere.ai", "api.cohere.com"),
    "DEEPSEEK_API_KEY": ("api.deepseek.com",),
    "FIREWORKS_API_KEY": ("api.fireworks.ai",),
    "GEMINI_API_KEY": ("generativelanguage.googleapis.com",),
    "GOOGLE_API_KEY": ("generativelanguage.googleapis.com",),
    "GROQ_API_KEY": ("api.groq.com",),
    "HF_TOKEN": ("router.huggingface.co", "api-inference.huggingface.co", ".endpoints.huggingface.cloud"),
    "MISTRAL_API_KEY": ("api.mistral.ai",),
    "OPENROUTER_API_KEY": ("openrouter.ai",),
    "TOGETHER_API_KEY": ("api.together.xyz", "api.together.ai"),
    "XAI_API_KEY": ("api.x.ai",),
}
_NAMES = re.compile(r"(^|_)(API|LLM|MODEL|CHAT)_(KEY|TOKEN)$")
_QUOTES = "\"'\u2018\u2019\u201c\u201d"


def key_for(address: Address, variable: str | None, environ: Mapping[str, str]) -> str | None:
    """The key to send to `address`; None where there is none to send. `variable`: what the file names; None: it names
    none; empty: it wants none.

    Raises HttpError where a variable that the file names may not go there, or its value is no key. No message holds
    any part of a value.
    """
    if variable == "":
        return None
    name = variable or DEFAULT
    key = environ.get(name, "")
    bound = _bindings(environ)
    if not key:
        return None
    refusal = _refusal(name, address, bound)
    if refusal is not None:
        if variable is None:
            return None
        raise HttpError(HttpErrorKind.SETTINGS, refusal)
    wrong = _wrong(key)
    if wrong:
        raise HttpError(HttpErrorKind.SETTINGS, f"the key in {name} {wrong}; nothing was sent")
    return key


def bound_variables(environ: Mapping[str, str]) -> frozenset[str]:
    """Those whose keys the operator has bound to addresses. Raises HttpError where `THALWEG_KEYS` cannot be read."""
    return frozenset(_bindings(environ))


def _refusal(name: str, address: Address, bound: Mapping[str, set[str]]) -> str | None:
    """Why the key of `name` does not go to `address`, and what to do; None: it may."""
    remedy = f"to allow it, set {BINDING}='{name}={address.origin}' where Thalweg runs"
    if name in bound:
        if address.origin in bound[name]:
            return None
        return f"{BINDING} binds {name} to other addresses than {address.origin}"
    if name not in PROVIDERS and not _NAMES.search(name):
        return (
            f"the variable {quoted(name, 60)!r} does not look like the key of a model server, such as HOUSE_API_KEY; "
            f"it was not read; {remedy}"
        )
    if address.loopback:
        return None
    if address.scheme != "https":
        return f"{address.origin} is asked without encryption, and the key in {name} could be read on the way; {remedy}"
    if bound:
        return f"{BINDING} does not bind {name}; {remedy}"
    if name in PROVIDERS and not any(_matches(address.host, host) for host in PROVIDERS[name]):
        return f"the key in {name} belongs to {PROVIDERS[name][0].lstrip('.')}, not to {address.host}; {remedy}"
    return None


def _matches(host: str, allowed: str) -> bool:
    return host.endswith(allowed) if allowed.startswith(".") else host == allowed


def _bindings(environ: Mapping[str, str]) -> dict[str, set[str]]:
    bound: dict[str, set[str]] = {}
    for entry in re.split(r"[\s,]+", environ.get(BINDING, "").strip()):
        if not entry:
            continue
        name, separator, where = entry.partition("=")
        if not separator or not where:
            raise HttpError(
                HttpErrorKind.SETTINGS,
                f"{BINDING} holds an entry without an address, expected NAME=https://host, with blanks between entries",
            )
        try:
            origin = Address.parse(where if "://" in where else f"https://{where}").origin
        except HttpError as error:
            raise HttpError(HttpErrorKind.SETTINGS, f"{BINDING}, {quoted(name, 60)}: {error}") from None
        bound.setdefault(name, set()).add(origin)
    return bound


def _wrong(key: str) -> str:
    """What keeps it from being a key, without a character of it."""
    at = next((at for at, character in enumerate(key) if not "\x21" <= character <= "\x7e"), None)
    if at is None:
        return ""
    place = f"at place {at + 1} of {len(key)}"
    if key.strip() != key and key.strip().isascii() and not any(c.isspace() for c in key.strip()):
        ends = "line break" if any(c in "\r\n" for c in key) else "blank"
        return f"begins or ends with a {ends}: write it without, for example with printf '%s' in place of echo"
    if key[at] in _QUOTES:
        return f"holds a typographic quotation mark ({place}): write it without quotation marks"
    return f"holds a character that cannot be part of a key ({place})"
