"""Problems of a configuration: path, reason, and a suggestion."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.common.redaction import scrub
from mlflow_ae5_deploy.config.settings import Settings

Path = tuple[str | int, ...]
COMMAND_LINE, ENVIRONMENT = "command line", "environment "  # origins; of a variable, its name follows

_WORDS: Mapping[str, str] = {
    "string_type": "must be text; put it in quotes",
    "bool_type": "must be true or false",
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "finite_number": "must be a finite number",
    "list_type": "must be a list ([] for an empty one)",
    "dict_type": "must be a group of settings (key: value)",
    "model_type": "must be a group of settings (key: value)",
    "missing": "is missing",
    "invalid_key": "is not a setting: its name must be text",
}


@dataclass(frozen=True)
class Problem:
    """path: without the profile. origin: "line 12", "environment AE5_HOSTNAME" or ""."""

    path: Path
    message: str
    origin: str = ""

    def __str__(self) -> str:
        prefix = f"{dotted(self.path)} ({self.origin}):" if self.origin else f"`{dotted(self.path)}`"
        return scrub(f"{prefix} {self.message}")  # no colon right behind a name: `password: must` looks like a leak


def dotted(path: Iterable[str | int]) -> str:
    return ".".join(str(part) for part in path)


def of_validation(error: ValidationError) -> list[Problem]:
    """pydantic's findings in our words. The offending values stay behind."""
    found: list[Problem] = []
    for item in error.errors(include_url=False):
        path = tuple(part for part in item["loc"] if part != "[key]")
        found.extend(_translate(path, item["type"], item.get("ctx", {}), item.get("input")))
    return found


def _translate(path: Path, kind: str, context: dict[str, Any], value: Any) -> list[Problem]:
    if kind == "extra_forbidden":
        return [Problem(path, "is not a setting" + _hint(path))]
    if kind == "value_error":
        reason = context["error"].args[0]
        if isinstance(reason, list):
            return [Problem((*path, *(key if isinstance(key, tuple) else (key,))), problem) for key, problem in reason]
        return [Problem(path, reason)]
    if kind == "literal_error":
        return [Problem(path, f"must be {context['expected']}")]
    if kind == "greater_than":
        return [Problem(path, f"must be greater than {context['gt']:g}")]
    words = _WORDS.get(kind, f"is not valid ({kind})")
    return [Problem(path, f"must not be empty (null): it {words}" if value is None and kind != "missing" else words)]


def _hint(path: Path) -> str:
    """A suggestion: a similar key in this group, or the same key in another one."""
    group, key = path[:-1], str(path[-1])
    model = _model_at(group)
    near = difflib.get_close_matches(key, model.model_fields, n=1) if model else []
    if near:
        return f"; did you mean '{dotted((*group, near[0]))}'?"
    elsewhere = [name for name in _all_keys() if name.rpartition(".")[2] == key]
    if elsewhere:
        return f"; did you mean {' or '.join(repr(name) for name in elsewhere)}?"
    return f"; settings here: {', '.join(model.model_fields)}" if model else ""


def _model_at(group: Path) -> type[BaseModel] | None:
    model: type[BaseModel] | None = Settings
    for part in group:
        if model is None:
            return None
        if part not in model.model_fields:
            continue  # the key of a mapping or the index of a list: its model was found one step before
        model = model_in(model.model_fields[str(part)].annotation)
    return model


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The group of settings of an annotation, or of a list's or mapping's items."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for found in map(model_in, get_args(annotation)) if found), None)


def _all_keys() -> list[str]:
    return [
        dotted((section, key))
        for section, field in Settings.model_fields.items()
        if (model := model_in(field.annotation)) and isinstance(field.annotation, type)
        for key in model.model_fields
    ]


def refusal(problems: Iterable[Problem], *, where: str) -> Configuration:
    """One error for all problems: a single sentence, or a list."""
    found = list(problems)
    lines = list(dict.fromkeys(map(str, found)))
    origins = {problem.origin for problem in found}
    where = COMMAND_LINE if origins == {COMMAND_LINE} else where
    remedy = _remedy(origins)
    if len(lines) == 1:
        return Configuration(lines[0] if lines[0].endswith((".", "?")) else f"{lines[0]}.", where=where, remedy=remedy)
    listed = "\n".join(f"- {line}" for line in lines)
    return Configuration(f"The configuration has {len(lines)} problems.", where=where, remedy=remedy, detail=listed)


def _remedy(origins: Collection[str]) -> str:
    if origins == {COMMAND_LINE}:
        return "Correct it on the command line, then run this again."
    variables = [origin.removeprefix(ENVIRONMENT) for origin in origins if origin.startswith(ENVIRONMENT)]
    if len(variables) == len(origins) == 1:
        return f"Correct {variables[0]} in the environment, or unset it."
    return "Run `mlflow-ae5-deploy init FILE` for a file with every setting and its meaning."
