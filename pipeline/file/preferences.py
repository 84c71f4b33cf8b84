"""What a person may choose for their own conversation, as the pipeline file offers it: that, and nothing else.

    preferences:
      voice.speed: {label: Speed of speech, from: 0.6, to: 1.8, unit: ×}
      recogniser.language: {label: Language, values: {en: English, de: Deutsch}}

Each names a parameter that its stage lets change while it runs, and a range or a list of values. All values of a list,
and both ends of a range, are checked against the parameter before anything starts.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.file.unread import Unread
from thalweg.pipeline.graph import Graph, nearest
from thalweg.pipeline.stage import StageInfo

KEYS = ("label", "from", "to", "step", "unit", "values")
PREFERENCES_AT_MOST = 16
VALUES_AT_MOST = 64
_LONGEST = 80


class PreferenceError(ThalwegError):
    """A value that is not offered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """One parameter that may be chosen. `values`: value → what people call it; without any, numbers `low` to `high`.

    `value`: the one that conversations begin with.
    """

    stage: str
    parameter: str
    label: str
    value: object
    values: Mapping[str, str] = field(default_factory=dict)
    low: float = 0.0
    high: float = 0.0
    step: float = 0.1
    unit: str = ""

    @property
    def name(self) -> str:
        """`stage.parameter`."""
        return f"{self.stage}.{self.parameter}"

    def taken(self, value: object) -> object:
        """`value`, where it is offered. Raises PreferenceError, which does not repeat it."""
        if self.values:
            if type(value) is str and value in self.values:
                return value
            raise PreferenceError(f"{self.label}: that is not one of the values offered")
        number = _number(value)
        if number is not None and self.low <= number <= self.high:
            return number
        raise PreferenceError(f"{self.label}: expected a number from {self.low:g} to {self.high:g}")

    def plain(self) -> dict[str, Any]:
        """As JSON types, for clients."""
        about = {"name": self.name, "label": self.label, "value": self.value}
        if self.values:
            return about | {"values": [{"value": value, "label": label} for value, label in self.values.items()]}
        return about | {"from": self.low, "to": self.high, "step": self.step, "unit": self.unit}


def read_preferences(
    said: Mapping[str, Any], graph: Graph, settings: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, Preference], list[tuple[str, str]]]:
    """The preferences by name, and what is wrong with them: name, empty for all, and message.

    `said`: as in the file, with variables filled in; `settings`: stage → what the file gives it.
    """
    found: dict[str, Preference] = {}
    wrong: list[tuple[str, str]] = []
    if len(said) > PREFERENCES_AT_MOST:
        wrong.append(("", f"{len(said)} preferences, expected {PREFERENCES_AT_MOST} at most"))
    for name, body in said.items():
        stage, _, parameter = str(name).rpartition(".")
        if stage not in graph.stages:
            near = nearest(stage, graph.stages)
            wrong.append((name, f"there is no stage {stage!r}{near}; a preference is named `stage.parameter`"))
            continue
        info, given = graph.stages[stage].info, settings.get(stage, {})
        if info.cls is Unread:
            continue
        if parameter not in info.configurable:
            changing = ", ".join(sorted(info.configurable)) or "nothing"
            wrong.append((name, f"{parameter} cannot change while {stage} runs; what can: {changing}"))
            continue
        begins = given.get(parameter, info.parameters.model_fields[parameter].get_default())
        may = _may_become(info, given).get(parameter)
        problems = _wrong(body, info, parameter, may)
        if problems:
            wrong += [(name, problem) for problem in problems]
        else:
            found[name] = _made(stage, parameter, body, begins)
    return found, wrong


def _may_become(info: StageInfo, given: Mapping[str, Any]) -> Mapping[str, Collection[str]]:
    asked = getattr(info.cls, "may_become", None)
    return {} if asked is None else asked(given)


def _made(stage: str, parameter: str, body: Mapping[str, Any], begins: object) -> Preference:
    label = str(body.get("label") or parameter)
    if "values" in body:
        values = _values(body["values"])
        if str(begins) not in values:
            values = {str(begins): str(begins), **values}
        return Preference(stage=stage, parameter=parameter, label=label, value=str(begins), values=values)
    low, high = float(body["from"]), float(body["to"])
    step, unit = float(body.get("step", 0.1)), str(body.get("unit", ""))
    return Preference(
        stage=stage, parameter=parameter, label=label, value=begins, low=low, high=high, step=step, unit=unit
    )


def _wrong(body: Any, info: StageInfo, parameter: str, may: Collection[str] | None) -> list[str]:
    if not isinstance(body, dict):
        return ["expected a mapping with `values`, or `from` and `to`"]
    unknown = [key for key in body if key not in KEYS]
    if unknown:
        return [f"unknown key {unknown[0]!r}{nearest(str(unknown[0]), KEYS)}, expected {', '.join(KEYS)}"]
    if "values" in body:
        return _wrong_values(body, info, parameter, may)
    low, high, step = (_number(value) for value in (body.get("from"), body.get("to"), body.get("step", 0.1)))
    if low is None or high is None or not low < high:
        return ["expected `values`, or numbers in `from` and `to`, the first below the second"]
    if step is None or not 0 < step <= high - low:
        return [f"`step` is {body['step']!r}, expected a number above 0, no larger than the range"]
    return [problem for end in (low, high) if (problem := _refused(info, parameter, end))]


def _wrong_values(body: dict[str, Any], info: StageInfo, parameter: str, may: Collection[str] | None) -> list[str]:
    values = body["values"]
    if {"from", "to", "step"} & body.keys():
        return ["`values` stands in place of `from`, `to` and `step`"]
    if not isinstance(values, dict | list) or not values or len(values) > VALUES_AT_MOST:
        return [f"`values` is {type(values).__name__}, expected 1 to {VALUES_AT_MOST} texts, or value: label"]
    wrong = [value for value in values if type(value) is not str or len(value) > _LONGEST]
    if wrong:
        return [f"`values` has {wrong[0]!r}, expected texts of {_LONGEST} characters at most; put it in quotes"]
    if may is not None and (foreign := [value for value in values if value not in may]):
        return [
            f"`values` has {foreign[0]!r}, which {parameter} cannot become here, only {', '.join(filter(None, may))}"
        ]
    return [problem for value in values if (problem := _refused(info, parameter, value))]


def _values(said: Mapping[str, Any] | list[str]) -> dict[str, str]:
    if isinstance(said, list):
        return {value: value for value in said}
    return {value: str(label)[:_LONGEST] for value, label in said.items()}


def _refused(info: StageInfo, parameter: str, value: object) -> str:
    try:
        info.check_some({parameter: value})
    except ThalwegError as error:
        return str(error)
    return ""


def _number(value: object) -> float | None:
    """Where it is a finite one; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return number if math.isfinite(number := float(value)) else None
    except OverflowError:
        return None
