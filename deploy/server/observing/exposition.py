"""The metrics of many hosts as one exposition: each sample with the label `host`, each family once."""

from __future__ import annotations

import re
from collections.abc import Mapping

_NAME, _TEXT = r"[a-zA-Z_:][a-zA-Z0-9_:]*", r'"(?:[^"\\\n\x00]|\\[\\"n])*"'
_LABEL = rf"(?!host=)[a-zA-Z_][a-zA-Z0-9_]*={_TEXT}"
_SAMPLE = re.compile(
    rf"(?P<name>{_NAME})(?:\{{(?P<labels>(?:{_LABEL}(?:,{_LABEL})*)?),?\}})? "
    r"(?P<value>[+-]?(?:[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|Inf)|NaN)(?: \d+)?"
)
_KINDS = "counter|gauge|histogram|summary|untyped"
_HEAD = re.compile(rf"# (?:HELP (?P<named>{_NAME}) .*|TYPE (?P<typed>{_NAME}) (?:{_KINDS}))")
_OURS = re.compile("thalweg_front_|thalweg_host_up$")
"""What the front itself tells: no host does."""
MOST_LINES = 20_000
TEXT = "text/plain; version=0.0.4; charset=utf-8"


def merged(
    texts: Mapping[str, str], counts: Mapping[str, int], up: Mapping[str, bool], taken: tuple[int, int] = (0, 0)
) -> str:
    """`texts`: host → its exposition; `counts`: what happened at the front; `up`: host → whether it answers; `taken`:
    conversations on all hosts, and places for them.

    Lines that are none of the format are left out, and those that speak for a front or for another host.
    """
    families: dict[str, list[str]] = {}
    for host, text in texts.items():
        family = ""
        for line in text.splitlines()[:MOST_LINES]:
            if head := _HEAD.fullmatch(line):
                family = head["named"] or head["typed"]
                heads = families.setdefault(family, [])
                if line.startswith("# HELP ") and not any(head.startswith("# HELP ") for head in heads):
                    heads.insert(0, line)
                elif line.startswith("# TYPE ") and not any(head.startswith("# TYPE ") for head in heads):
                    heads.insert(sum(head.startswith("# HELP ") for head in heads), line)
            elif line.startswith("#"):
                family = ""
            elif (found := _SAMPLE.fullmatch(line.strip())) and not _OURS.match(found["name"]):
                labels = f'host="{host}"' + (f",{found['labels']}" if found["labels"] else "")
                families.setdefault(family or found["name"], []).append(f"{found['name']}{{{labels}}} {found['value']}")
    own = {
        "thalweg_front_events_total": (
            "counter",
            "What happened at the front since its start, by kind",
            [f'{{kind="{kind}"}} {count}' for kind, count in sorted(counts.items())],
        ),
        "thalweg_host_up": (
            "gauge",
            "Whether a conversation host answers",
            [f'{{host="{name}"}} {int(there)}' for name, there in sorted(up.items())],
        ),
    }
    for name, text, count in zip(
        ("conversations", "places"),
        ("Conversations on all hosts", "Conversations that all hosts can hold, as far as is known"),
        taken,
        strict=True,
    ):
        own[f"thalweg_front_{name}"] = ("gauge", text, [f" {count}"])
    lines = [line for name, family in families.items() if not _OURS.match(name) for line in family]
    for name, (kind, text, samples) in own.items():
        lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *(f"{name}{sample}" for sample in samples)]
    return "\n".join(lines) + "\n"
