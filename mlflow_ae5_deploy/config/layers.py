"""Merge layers of settings: groups key by key; values and lists are replaced."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_origin

from mlflow_ae5_deploy.config.problems import COMMAND_LINE, ENVIRONMENT, Problem, model_in
from mlflow_ae5_deploy.config.settings import Settings

SettingPath = tuple[Any, ...]


@dataclass(frozen=True)
class Layer:
    label: str  # default | file | profile NAME | environment NAME | flag
    values: Mapping[Any, Any]
    base: Path  # the folder of its relative paths
    prefix: tuple[str, ...] = ()  # its path in the file
    lines: Mapping[SettingPath, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Merged:
    """origins: the layer of each group and of each value in `values`, by its path."""

    values: dict[Any, Any] = field(default_factory=dict)
    origins: dict[SettingPath, Layer] = field(default_factory=dict)

    def origin(self, path: SettingPath) -> Layer | None:
        """The layer of `path`, or of the group or list that contains it."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.origins:
                return self.origins[path[:end]]
        return None

    def located(self, problem: Problem) -> Problem:
        """The problem with its path and line in the file, or its variable or flag."""
        layer = self.origin(problem.path)
        if layer is None or problem.origin:
            return problem
        if layer.label == "flag":
            return Problem(problem.path, problem.message, COMMAND_LINE)
        if layer.label.startswith(ENVIRONMENT):
            return Problem(problem.path, problem.message, layer.label)
        path = (*layer.prefix, *problem.path)
        line = next((layer.lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in layer.lines), None)
        return Problem(path, problem.message, f"line {line}" if line else "")


def merge(layers: Iterable[Layer]) -> Merged:
    """The last layer wins."""
    merged = Merged()
    for layer in layers:
        _lay_over(merged.values, _blank_groups(layer.values), (), layer, merged.origins)
    return merged


def _lay_over(
    under: dict[Any, Any], over: Mapping[Any, Any], path: SettingPath, layer: Layer, origins: dict[SettingPath, Layer]
) -> None:
    for key, value in over.items():
        setting_path = (*path, key)
        origins[setting_path] = layer
        if isinstance(value, Mapping) and isinstance(under.get(key), dict):
            _lay_over(under[key], value, setting_path, layer, origins)
            continue
        if isinstance(value, Mapping):
            under[key] = {}
            _lay_over(under[key], value, setting_path, layer, origins)
        else:
            under[key] = list(value) if isinstance(value, tuple) else copy.copy(value)


def _blank_groups(values: Mapping[Any, Any]) -> dict[Any, Any]:
    """Read a group whose lines are all commented out, null in YAML, as an empty one."""
    result = dict(values)
    for section, about in Settings.model_fields.items():
        model = model_in(about.annotation)
        if section not in result or model is None or get_origin(about.annotation) is not None:
            continue
        if result[section] is None:
            result[section] = {}
        elif isinstance(result[section], Mapping):
            mappings = {key for key, field in model.model_fields.items() if get_origin(field.annotation) is dict}
            result[section] = {
                key: {} if value is None and key in mappings else value for key, value in result[section].items()
            }
    return result


def nested(dotted_values: Mapping[str, Any]) -> dict[str, Any]:
    """{"gc.schedule": x} -> {"gc": {"schedule": x}}. None means: not given."""
    result: dict[str, Any] = {}
    for name, value in dotted_values.items():
        if value is None:
            continue
        *groups, key = name.split(".")
        inner = result
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[key] = {**inner[key], **value} if isinstance(value, Mapping) and key in inner else value
    return result
