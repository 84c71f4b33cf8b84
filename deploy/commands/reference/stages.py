"""What stages there are: for `thalweg stages`, and as the reference in `docs/stages.md`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from thalweg.deploy.console import Console
from thalweg.pipeline.duration import format_duration
from thalweg.pipeline.file.catalog import find_stage, find_without_running, installed_stages, stage_names
from thalweg.pipeline.stage import Port, StageError, StageInfo
from thalweg.stages.io.terminal import say, say_json


def print_stages(name: str | None, as_json: bool, *, trust: bool = False) -> None:
    """One stage in full, or all in a line each. Raises StageError on an unknown name.

    `trust`: import a class that is named `module:Class`, from the folder that this is run in, too.
    """
    infos, broken = ([_shown(name, trust)], {}) if name else installed_stages()
    if as_json:
        entries = [stage_entry(info) for info in infos]
        say_json([*entries, *({"use": use, "broken": why} for use, why in broken.items())], indent=2)
    elif name:
        say(stage_markdown(infos[0]), end="")
    else:
        console = Console()
        width = max(len(info.use) for info in infos)
        for info in infos:
            sides = (
                ", ".join(f"{n}: {p.type.__name__}" for n, p in side.items()) for side in (info.inputs, info.outputs)
            )
            console.say(f"{info.use:{width}}  {info.doc.partition(chr(10))[0]}")
            console.say(" " * (width + 2), (" → ".join(side or "·" for side in sides), "dim"))
        for use, why in broken.items():
            console.say(f"{use:{width}}  ", ("cannot be used: ", "bold"), why)


def _shown(name: str, trust: bool) -> StageInfo:
    if trust:
        if (here := str(Path.cwd())) not in sys.path:
            sys.path.append(here)
    elif name not in stage_names():
        find_without_running(name)  # which says what is wrong with a name that can be none
        raise StageError(f"{name} was not looked at, since that runs its code. If you trust it: --trust")
    return find_stage(name)


def stage_entry(info: StageInfo) -> dict[str, Any]:
    """Ports and parameters as plain data."""
    return {
        "use": info.use,
        "summary": info.doc.partition("\n")[0],
        "inputs": {name: _port(port) for name, port in info.inputs.items()},
        "outputs": {name: _port(port) for name, port in info.outputs.items()},
        "parameters": parameter_entries(info),
        "configurable": sorted(info.configurable),
        "replicable": info.replicable,
        "knobs": {name: kind.value for name, kind in info.knobs.items()},
    }


def parameter_entries(info: StageInfo) -> list[dict[str, Any]]:
    """Name, type, default (None where it must be given) and description of each parameter."""
    schema = info.parameters.model_json_schema()
    entries = []
    for name, field in info.parameters.model_fields.items():
        entry = schema["properties"][name]
        is_duration = entry.get("examples") == ["300ms"]
        default = None if field.is_required() else field.default
        entries.append(
            {
                "name": name,
                "type": "duration" if is_duration else _type(entry),
                "required": field.is_required(),
                "default": format_duration(default) if is_duration and default is not None else default,
                "description": field.description or "",
            }
        )
    return entries


def stage_markdown(info: StageInfo) -> str:
    """A section of the stage reference."""
    lines = [f"## `{info.use}`", "", info.doc, ""]
    for side, ports in (("in", info.inputs), ("out", info.outputs)):
        for name, port in ports.items():
            notes = ["optional"] * (not port.required) + ["any number of edges"] * port.many
            lines.append(f"- {side}: `{name}` – {port.type.__name__}{f' ({chr(44).join(notes)})' if notes else ''}")
    lines += [f"- replicable: {info.replicable}"] * bool(info.replicable)
    lines += [f"- knob: `{name}` – {kind.value}" for name, kind in info.knobs.items()]
    changing = ", ".join(f"`{name}`" for name in sorted(info.configurable))
    lines += [f"- may change while it runs: {changing}"] * bool(changing)
    parameters = parameter_entries(info)
    if parameters:
        lines += ["", "| parameter | type | default | |", "|---|---|---|---|"]
    for entry in parameters:
        default = "required" if entry["required"] else f"`{json.dumps(entry['default'], ensure_ascii=False)}`"
        lines.append(f"| `{entry['name']}` | {entry['type']} | {default} | {entry['description']} |")
    return "\n".join([*lines, ""])


def reference_markdown() -> str:
    """`docs/stages.md`."""
    head = "# Stages\n\nMade from the code by `make reference`; `thalweg stages NAME` prints the same.\n"
    return "\n".join([head, *(stage_markdown(info) for info in installed_stages()[0])])


def _port(port: Port) -> dict[str, Any]:
    return {"type": port.type.__name__, "required": port.required, "many": port.many}


def _type(entry: dict[str, Any]) -> str:
    if "enum" in entry:
        return " or ".join(f"`{value}`" for value in entry["enum"])
    if "anyOf" in entry:
        return " or ".join(_type(option) for option in entry["anyOf"] if option.get("type") != "null")
    text = {"integer": "whole number", "boolean": "true/false", "string": "text"}.get(entry.get("type", ""), "")
    text = "path" if entry.get("format") == "path" else text or str(entry.get("type", "any"))
    low, high = entry.get("minimum"), entry.get("maximum")
    over, under = entry.get("exclusiveMinimum"), entry.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f"{text} {low}…{high}"
    if low is not None or over is not None:
        text += f" ≥ {low}" if low is not None else f" > {over}"
    return text + (f", < {under}" if under is not None else "")
