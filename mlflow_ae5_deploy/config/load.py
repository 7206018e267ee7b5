"""Load the settings: file < profile < environment < flags, each with its source."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from mlflow_ae5_deploy.common import redaction
from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.config.environment import CA_VARIABLE, CONFIG_VARIABLE, DEFAULT_FILE, read_environment
from mlflow_ae5_deploy.config.layers import Layer, Merged, SettingPath, merge, nested
from mlflow_ae5_deploy.config.problems import ENVIRONMENT, Problem, dotted, of_validation, refusal
from mlflow_ae5_deploy.config.sandbox_ignores import without_real_systems
from mlflow_ae5_deploy.config.secret_refs import SecretRef
from mlflow_ae5_deploy.config.settings import Settings
from mlflow_ae5_deploy.config.warnings import advice
from mlflow_ae5_deploy.config.yaml_file import YamlFile, read_yaml

_IGNORED = "Ignored on the sandbox, because they refer to real systems:"
_PROFILE_NAME = re.compile(r"[A-Za-z0-9_-]+\Z")
_MAY_HIDE_A_SECRET = re.compile(r"[?\n]|://.*@")
_ARCHIVES = (".tar.gz", ".tgz", ".tar.bz2", ".tar", ".zip")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedSettings:
    settings: Settings
    path: Path | None  # of the file, if there is one
    profile: str | None
    sources: Mapping[
        str, str
    ]  # dotted path of every setting -> default | file | profile NAME | environment NAME | flag
    advice: tuple[str, ...]  # warnings about risky settings
    ignored_on_sandbox: tuple[str, ...] = ()  # warnings about settings that the sandbox ignores

    @property
    def warnings(self) -> tuple[str, ...]:
        return self.advice + self.ignored_on_sandbox


def load(
    path: Path | None,
    *,
    profile: str | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, Any],
    sandbox: bool = False,
    cwd: Path | None = None,
) -> LoadedSettings:
    """The settings in force.

    path:      the file asked for; None takes MLFLOW_AE5_DEPLOY_CONFIG, else mlflow-ae5-deploy.yaml in `cwd` if it is
               there, else no file.
    overrides: dotted path -> value, from flags; None means that the flag was not given.
    sandbox:   leave out what leads to a real platform or store, wherever but in `overrides` it is set.

    Relative paths are below the file they are written in, or below `cwd` when they come from elsewhere.
    Raises one Configuration that lists all problems.
    """
    here = Path.cwd() if cwd is None else cwd
    file = _find(path, environ, here)
    base, profiles, problems = _file_layers(file)
    layers = [*base, *_choose(profiles, profile, file)]
    values, misread = read_environment(environ, sandbox=sandbox)
    problems += misread + _problems_of_file(base, profiles)
    layers, ignored = _for_sandbox(layers) if sandbox else (layers, [])
    layers += [Layer(f"{ENVIRONMENT}{name.variable}", nested({dotted(name.path): text}), here) for name, text in values]
    layers.append(Layer("flag", nested(overrides), here))
    if not sandbox:
        layers += _trust_of_environment(merge(layers), environ, here)
    merged = merge(layers)
    checked = validate(merged.values)
    if not isinstance(checked, Settings):
        problems += [merged.located(problem) for problem in checked]
    if problems or not isinstance(checked, Settings):
        raise refusal(problems, where=str(file.path) if file else "")
    settings = _anchored(checked, (), merged)
    _show(settings)
    _log.info("configuration: %s, profile %s", file.path if file else "no file", profile or "none")
    advices = advice(settings)
    if file and file.writable_by_others:
        advices.append(f"Other accounts can change the configuration. Run: chmod go-w '{file.path}'")
    origins = {leaf: merged.origins.get(leaf) for leaf in _leaves(settings, ())}
    return LoadedSettings(
        settings=settings,
        path=file.path if file else None,
        profile=profile,
        sources={dotted(leaf): layer.label if layer else "default" for leaf, layer in origins.items()},
        advice=tuple(advices),
        ignored_on_sandbox=(f"{_IGNORED} {', '.join(ignored)}.",) if ignored else (),
    )


def validate(values: Mapping[Any, Any]) -> Settings | list[Problem]:
    """The settings, or everything that is wrong with them."""
    try:
        return Settings.model_validate(dict(values))
    except ValidationError as error:
        return of_validation(error)


def _find(path: Path | None, environ: Mapping[str, str], here: Path) -> YamlFile | None:
    if path is None and environ.get(CONFIG_VARIABLE):
        path = Path(environ[CONFIG_VARIABLE])
    if path is None:
        path = here / DEFAULT_FILE
        if not path.exists():
            return None
    return read_yaml(here / path)


def _file_layers(file: YamlFile | None) -> tuple[list[Layer], dict[str, Layer], list[Problem]]:
    if file is None:
        return [], {}, []
    folder = Path(os.path.abspath(file.path)).parent  # noqa: PTH100 - links are kept: the file may be a mounted one
    values = dict(file.values)
    raw = values.pop("profiles", None)
    base = [Layer("file", values, folder, (), file.lines)]
    problems: list[Problem] = []
    profiles: dict[str, Layer] = {}
    if raw is not None and not isinstance(raw, dict):
        problems.append(_at(file, ("profiles",), "must be a group of profiles (name: settings)"))
    for name, settings in raw.items() if isinstance(raw, dict) else ():
        setting_path = ("profiles", str(name))
        if not _PROFILE_NAME.match(str(name)):
            problems.append(_at(file, setting_path, "may contain only letters, digits, '_' and '-'"))
        elif settings is not None and not isinstance(settings, dict):
            problems.append(_at(file, setting_path, "must be a group of settings (key: value)"))
        else:
            profiles[str(name)] = Layer(f"profile {name}", settings or {}, folder, setting_path, file.lines)
    return base, profiles, problems


def _at(file: YamlFile, setting_path: tuple[str, ...], message: str) -> Problem:
    line = file.lines.get(setting_path)
    return Problem(setting_path, message, f"line {line}" if line else "")


def _choose(profiles: Mapping[str, Layer], desired: str | None, file: YamlFile | None) -> list[Layer]:
    if desired is None:
        return []
    if desired in profiles:
        return [profiles[desired]]
    if file is None:
        raise Configuration(
            f"There is no configuration file, so there is no profile '{desired}'.",
            remedy="Run `mlflow-ae5-deploy init` to write one, or name it with --config.",
        )
    listed = ", ".join(sorted(profiles))
    raise Configuration(
        f"There is no profile '{desired}' in the configuration.",
        where=str(file.path),
        remedy=f"The profiles are: {listed}." if listed else "It has no profiles: leave --profile out.",
    )


def _problems_of_file(base: list[Layer], profiles: Mapping[str, Layer]) -> list[Problem]:
    """All problems of the file, also in unused profiles and overridden values."""
    problems: list[Problem] = []
    for layers in [base, *([*base, profile] for profile in profiles.values())]:
        merged = merge(layers)
        checked = validate(merged.values)
        if not isinstance(checked, Settings):
            problems += [merged.located(problem) for problem in checked]
    return problems


def _for_sandbox(layers: list[Layer]) -> tuple[list[Layer], list[str]]:
    """The layers without settings of real systems, and the names of those."""
    cleaned = [without_real_systems(layer.values) for layer in layers]
    ignored = sorted({name for _, names in cleaned for name in names})
    return [replace(layer, values=values) for layer, (values, _) in zip(layers, cleaned, strict=True)], ignored


def _trust_of_environment(merged: Merged, environ: Mapping[str, str], here: Path) -> list[Layer]:
    """requests' own variable, as the last resort: it is often set for the whole machine."""
    platform = merged.values.get("platform")
    has_ca_file = not isinstance(platform, dict | None) or bool(platform and platform.get("ca_file") is not None)
    bundle = None if has_ca_file else environ.get(CA_VARIABLE)
    return [Layer(f"{ENVIRONMENT}{CA_VARIABLE}", {"platform": {"ca_file": bundle}}, here)] if bundle else []


def _anchored(value: Any, path: SettingPath, merged: Merged) -> Any:
    """`value` with relative paths made absolute, below the folder of their layer."""
    if isinstance(value, BaseModel):
        inner = {key: getattr(value, key) for key in type(value).model_fields}
        changed = {key: _anchored(item, (*path, key), merged) for key, item in inner.items()}
        return value.model_copy(update=changed)
    if isinstance(value, dict):
        return {key: _anchored(item, (*path, key), merged) for key, item in value.items()}
    if isinstance(value, list):
        return [_anchored(item, (*path, index), merged) for index, item in enumerate(value)]
    layer = merged.origin(path)
    if layer is None:
        return value
    if isinstance(value, Path):
        return _below(layer.base, str(value))
    if isinstance(value, SecretRef) and value.kind == "file":
        return replace(value, name=str(_below(layer.base, value.name)))
    return str(_below(layer.base, value)) if isinstance(value, str) and _is_path(path, value) else value


def _is_path(path: SettingPath, value: str) -> bool:
    """Whether one of the two settings that may be a path or something else is a path."""
    if path == ("release", "mirror"):
        return "://" not in value
    if path == ("release", "source"):
        return "://" not in value and ("/" in value or value.startswith("~") or value.endswith(_ARCHIVES))
    return False


def _below(base: Path, path: str) -> Path:
    return base / os.path.expanduser(path)  # noqa: PTH111 - Path.expanduser raises for an unknown ~user


def _show(value: Any) -> None:
    """Exempt names and paths of the configuration from scrubbing: it holds no secrets.

    The exceptions are addresses, whose query may hold one, and variables.
    """
    if isinstance(value, BaseModel):
        inner = [getattr(value, key) for key in type(value).model_fields if key != "variables"]
    elif isinstance(value, list):
        inner = value
    else:
        inner = list(value.values()) if isinstance(value, dict) else []
    for item in inner:
        _show(item)
    if isinstance(value, SecretRef) and value.kind == "file":
        redaction.exempt(value.name)
    if isinstance(value, str | Path) and not _MAY_HIDE_A_SECRET.search(str(value)):
        redaction.exempt(str(value))


def _leaves(value: Any, path: tuple[str, ...]) -> list[tuple[str, ...]]:
    if isinstance(value, BaseModel):
        inner = {key: getattr(value, key) for key in type(value).model_fields}
    elif isinstance(value, dict) and value:
        inner = value
    else:
        return [path]
    return [leaf for key, item in inner.items() for leaf in _leaves(item, (*path, key))]
