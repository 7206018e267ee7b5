"""Read and check `anaconda-project.yml`.

Shapes, from anaconda-project's reference: `commands` maps names to {unix, env_spec, supports_http_options, ...};
`env_specs` maps names to {packages, channels, ...}; `variables` maps names to a default (string, number or null,
no bool) or to {default, description}, or is a list of names without defaults.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mlflow_ae5_deploy.common.errors import ReleaseRefused
from mlflow_ae5_deploy.common.text import size
from mlflow_ae5_deploy.common.yaml_limits import MAX_BYTES, ODD_VALUES, UnfitYaml, check_events

PROJECT_FILE = "anaconda-project.yml"
LIST_KEYS = ("packages", "dependencies")  # both are anaconda-project's names for the same list
REQUIRED_COMMAND = "TrackingServer"


@dataclass(frozen=True)
class ProjectFile:
    commands: tuple[str, ...]
    env_specs: tuple[str, ...]
    variables: Mapping[str, str | None]


def read_project_file(data: bytes, where: str) -> ProjectFile:
    """Read and check the file; ReleaseRefused if AE5 could not run the server from it."""
    document = load_document(data, where)
    commands = _section(document, "commands", where)
    env_specs = _section(document, "env_specs", where)
    for name, command in commands.items():
        _check_command(name, command, env_specs, where)
    if REQUIRED_COMMAND not in commands:
        listed = ", ".join(map(str, commands)) or "none at all"
        raise ReleaseRefused(
            f"{PROJECT_FILE} has no command {REQUIRED_COMMAND} (it has: {listed}).",
            where=where,
            remedy="This is not a release of the MLflow tracking server; name another archive.",
        )
    return ProjectFile(
        commands=tuple(map(str, commands)),
        env_specs=tuple(map(str, env_specs)),
        variables=_variables(document, where),
    )


def variable_default(value: Any) -> Any:
    """The default of an entry of `variables`, a scalar or {default, description}."""
    return value.get("default") if isinstance(value, Mapping) else value


def load_document(data: bytes, where: str) -> Mapping[str, Any]:
    """The file's mapping, which callers only read. ReleaseRefused for anything else."""
    from ruamel.yaml.error import YAMLError

    if len(data) > MAX_BYTES:
        raise ReleaseRefused(f"{PROJECT_FILE} is larger than {size(MAX_BYTES)}.", where=where)
    try:
        document = _load(data)
    except UnfitYaml as error:
        raise ReleaseRefused(f"{PROJECT_FILE} {error}.", where=where) from None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        position = f" (line {mark.line + 1})" if mark is not None else ""
        problem = getattr(error, "problem", None) or type(error).__name__
        raise ReleaseRefused(f"{PROJECT_FILE} is not valid YAML{position}: {problem}.", where=where) from None
    except ODD_VALUES as error:
        raise ReleaseRefused(f"{PROJECT_FILE} cannot be read: {type(error).__name__}.", where=where) from None
    if not isinstance(document, Mapping):
        raise ReleaseRefused(f"{PROJECT_FILE} is not a mapping of keys to values.", where=where)
    return document


@lru_cache(maxsize=4)
def _load(data: bytes) -> Any:
    """Parse once per run: the parser is slow. Callers only read the result."""
    from ruamel.yaml import YAML

    text = data.decode("utf-8-sig")
    check_events(YAML(typ="safe", pure=True).parse(text))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one repeats a line of the file on stderr
        return YAML(typ="safe", pure=True).load(text)


def _section(document: Mapping[str, Any], key: str, where: str) -> Mapping[Any, Any]:
    section = document.get(key)
    if section is None:
        return {}
    if not isinstance(section, Mapping):
        raise ReleaseRefused(f"{PROJECT_FILE}: '{key}' is not a mapping of names.", where=where)
    return section


def _check_command(name: Any, command: Any, env_specs: Mapping[Any, Any], where: str) -> None:
    if not isinstance(command, Mapping):
        raise ReleaseRefused(f"{PROJECT_FILE}: command {name} is not a mapping.", where=where)
    env_spec = command.get("env_spec")
    if env_spec is not None and env_specs and str(env_spec) not in map(str, env_specs):
        raise ReleaseRefused(
            f"{PROJECT_FILE}: command {name} needs env_spec {env_spec!r}, which does not exist.", where=where
        )
    if name == REQUIRED_COMMAND and not (isinstance(command.get("unix"), str) and command["unix"].strip()):
        raise ReleaseRefused(f"{PROJECT_FILE}: command {name} has no 'unix' line to run.", where=where)


def _variables(document: Mapping[str, Any], where: str) -> dict[str, str | None]:
    section = document.get("variables")
    if section is None:
        return {}
    if isinstance(section, list):
        return {str(name): None for name in section}
    if not isinstance(section, Mapping):
        raise ReleaseRefused(f"{PROJECT_FILE}: 'variables' is neither a mapping nor a list.", where=where)
    found: dict[str, str | None] = {}
    for name, value in section.items():
        default = variable_default(value)
        if isinstance(default, bool) or not isinstance(default, str | int | float | None):
            raise ReleaseRefused(
                f"{PROJECT_FILE}: the default of variable {name} is a {type(default).__name__}, not a text.",
                where=where,
                remedy="Put it in quotes.",
            )
        found[str(name)] = None if default is None else str(default)
    return found
