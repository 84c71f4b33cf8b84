"""The JSON Schema of pipeline files, made from the stages that are installed."""

from __future__ import annotations

from typing import Any

from thalweg.pipeline.channel import Policy
from thalweg.pipeline.cluster.supervision import Delivery, RestartWhen
from thalweg.pipeline.duration import format_duration
from thalweg.pipeline.file.catalog import installed_stages
from thalweg.pipeline.file.plan import LAUNCHERS, TRANSPORTS
from thalweg.pipeline.file.preferences import PREFERENCES_AT_MOST
from thalweg.pipeline.file.worker_options import REPLICAS_AT_MOST
from thalweg.pipeline.fleet.moving.places import PLACES_AT_MOST
from thalweg.pipeline.node import Priority
from thalweg.pipeline.stage import StageInfo

_DURATION: dict[str, Any] = {"type": "string", "pattern": r"^\s*(\$\{[^}]+\}|\d+(\.\d+)?\s*(ns|us|ms|s|min|h))\s*$"}
_VARIABLE: dict[str, Any] = {"type": "string", "pattern": r"\$\{[^}]+\}"}
_LIMITED: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["runs"],
    "properties": {"runs": {"anyOf": [{"type": "integer", "minimum": 1}, _VARIABLE]}},
}


def pipeline_schema() -> dict[str, Any]:
    """JSON Schema 2020-12. A setting may always be a text with a `${variable}` in it. Stages that cannot be imported
    are left out.
    """
    stages = [stage_schema(info) for info in installed_stages()[0]]
    parts = {name: part for stage in stages for name, part in stage.pop("$defs", {}).items()}  # refs count from the top
    names = [stage["properties"]["use"]["const"] for stage in stages]
    used = {"type": "string", "description": "the kind of stage: a name of `thalweg stages`, or module:Class"}
    registered = {"if": {"not": {"pattern": "[:$]"}}, "then": {"enum": names}}
    of_a_kind = [{"if": _uses({"const": name}), "then": stage} for name, stage in zip(names, stages, strict=True)]
    named = {
        "type": "object",
        "required": ["use"],
        "properties": {"use": used},
        # each told apart by its `use`, so that what is wrong is said of the kind that was meant
        "allOf": [{"properties": {"use": registered}}, *of_a_kind],
    }
    connection = {
        "type": "object",
        "additionalProperties": False,
        "required": ["from", "to"],
        "properties": {
            "from": {"type": "string", "description": "stage.port, or stage where it has one output"},
            "to": {"type": "string", "description": "stage.port, or stage where it has one input"},
            "policy": {"enum": [policy.value for policy in Policy]},
            "capacity": {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 1_000_000}, _VARIABLE]},
            "max_age": _DURATION,
            "priority": {"enum": [priority.name.lower() for priority in Priority]},
            "delivery": {
                "enum": [delivery.value for delivery in Delivery],
                "description": "what becomes of packets under way when the consumer's worker is lost and restarted",
            },
        },
    }
    worker = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "launcher": {"enum": list(LAUNCHERS)},
            "replicas": {
                "anyOf": [{"type": "integer", "minimum": 1, "maximum": REPLICAS_AT_MOST}, _VARIABLE],
                "description": "how many such workers share the packets of its stages, which must be replicable",
            },
            "shared": {
                "anyOf": [{"type": "boolean"}, _LIMITED, _VARIABLE],
                "description": "one process holds this worker of many runs, each with its own stages; "
                "their models are there once; `runs`: of how many at most",
            },
            "restart": {
                "enum": [when.value for when in RestartWhen],
                "description": "after which deaths it comes back",
            },
            "restarts": {"type": "integer", "minimum": 1, "description": "most deaths in `window` that are forgiven"},
            "window": _DURATION | {"description": "see `restarts`"},
            "backoff": _DURATION | {"description": "pause before the second restart in a window; then it doubles"},
            "heartbeat": _DURATION | {"description": "a worker silent for so long is taken for dead"},
            "poison_tries": {
                "type": "integer",
                "minimum": 2,
                "description": "a packet that was in hand at so many deaths in a row is set aside",
            },
            "cpus": {"type": "number", "minimum": 0, "description": "Ray: CPUs to reserve"},
            "gpus": {"type": "number", "minimum": 0, "description": "Ray: GPUs to reserve"},
            "resources": {"type": "object", "description": "Ray: custom resources a node must have"},
            "labels": {"type": "object", "description": "Ray: labels a node must carry"},
            "host": {"type": "string", "description": "Ray: the address of the node, as `ray status` shows it"},
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Thalweg pipeline",
        "$defs": parts,
        "type": "object",
        "additionalProperties": False,
        "patternProperties": {"^x-": {"description": "yours: anchors for YAML's merge keys, notes, other programs"}},
        "properties": {
            "name": {"type": "string"},
            "description": {"type": "string"},
            "include": {"type": "array", "items": {"type": "string"}, "description": "files read before this one"},
            "variables": {
                "type": "object",
                "description": "name: default, or name: {default, description}; without a default it must be --set",
            },
            "keep": {"enum": ["nothing"], "description": "nothing of people is left behind: no stage, report or trace"},
            "preferences": {
                "type": "object",
                "maxProperties": PREFERENCES_AT_MOST,
                "description": "stage.parameter: what a person at the page may set it to, for their own conversation",
                "propertyNames": {"pattern": "\\."},
                "additionalProperties": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "label": {"type": "string", "description": "what people call it"},
                        "values": {
                            "anyOf": [
                                {"type": "array", "items": {"type": "string"}, "minItems": 1},
                                {"type": "object", "additionalProperties": {"type": "string"}, "minProperties": 1},
                            ],
                            "description": "texts, or text: what people call it",
                        },
                        "from": {"type": "number", "description": "least value"},
                        "to": {"type": "number", "description": "greatest value"},
                        "step": {"type": "number", "exclusiveMinimum": 0},
                        "unit": {"type": "string", "description": "shown behind the number"},
                    },
                },
            },
            "latency_budget": _DURATION | {"description": "turns whose first audio comes later are counted"},
            "stages": {
                "type": "object",
                "additionalProperties": _text_or(registered, named),
            },
            "connections": {
                "type": "array",
                "items": _text_or({"pattern": "->"}, connection),
            },
            "workers": {
                "type": "object",
                "description": "name: launcher, or name: {launcher, options}",
                "additionalProperties": _text_or({"enum": list(LAUNCHERS)}, worker),
            },
            "placement": {
                "type": "object",
                "description": (
                    "stage, or default: a worker, or a launcher for a worker of its own; "
                    "on a node also several places, edge first, between which the stage is moved while it runs"
                ),
                "additionalProperties": {
                    "anyOf": [
                        {"type": "string"},
                        {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": PLACES_AT_MOST},
                        {"type": "object", "minProperties": 2, "maxProperties": PLACES_AT_MOST},
                    ]
                },
            },
            "transports": {
                "type": "object",
                "description": "`a.port -> b.port`: what carries that edge between two workers",
                "additionalProperties": {"enum": list(TRANSPORTS)},
            },
        },
    }


def stage_schema(info: StageInfo) -> dict[str, Any]:
    """What may stand under a stage that uses `info`."""
    own = info.parameters.model_json_schema()
    properties = {name: _or_variable(entry) for name, entry in own.get("properties", {}).items()}
    own_keys = {"retry": _DURATION} if info.is_source else {}
    schema: dict[str, Any] = {
        "type": "object",
        "description": info.doc.partition("\n")[0],
        "additionalProperties": False,
        "required": ["use", *own.get("required", [])],
        "properties": {"use": {"const": info.use}, "deadline": _DURATION, **own_keys, **properties},
    }
    if "$defs" in own:
        schema["$defs"] = own["$defs"]
    return schema


def _or_variable(entry: dict[str, Any]) -> dict[str, Any]:
    about: dict[str, Any] = {key: entry[key] for key in ("description", "default") if key in entry}
    rest = {key: value for key, value in entry.items() if key not in ("description", "default", "title")}
    _let_contents_vary(rest)
    if rest.get("pattern") and isinstance(about.get("default"), int):
        about["default"] = format_duration(about["default"])
    return {"if": _VARIABLE, "else": rest, **about} if rest else about


def _uses(of: dict[str, Any]) -> dict[str, Any]:
    """A stage whose `use` is such a text."""
    return {"type": "object", "required": ["use"], "properties": {"use": of}}


def _text_or(text: dict[str, Any], otherwise: dict[str, Any]) -> dict[str, Any]:
    """A text that is such, or a mapping: told apart by what it is, so that an error is about the one that was meant."""
    return {"type": ["string", "object"], "if": {"type": "string"}, "then": text, "else": otherwise}


def _let_contents_vary(entry: dict[str, Any]) -> None:
    """Allow a variable for what stands in a mapping or list."""
    for alternative in entry.get("anyOf", [entry]):  # what the model says, before it may be a variable
        for inner in ("additionalProperties", "items"):
            if isinstance(alternative.get(inner), dict):
                alternative[inner] = _or_variable(alternative[inner])
