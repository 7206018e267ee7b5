"""Render the settings as an annotated configuration file.

runbooks/explanation/architecture.md has the steps of a new setting.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mlflow_ae5_deploy.config.environment import CA_VARIABLE, NAMES
from mlflow_ae5_deploy.config.initial import SCHEMA
from mlflow_ae5_deploy.config.problems import model_in
from mlflow_ae5_deploy.config.settings import Settings

_WIDTH = 116
_SCHEMA = f"# yaml-language-server: $schema=./{SCHEMA}"  # `init` writes it beside the file
_HEADER = """\
Configuration of mlflow-ae5-deploy: every setting, with its default and what it means.

Precedence: this file < the profile chosen with --profile < environment variables < options.
This file holds no secrets, only references to them:
  env:NAME     the value of the environment variable NAME
  file:PATH    the content of a file that only you may read (chmod 600)
  prompt       entered at the terminal
Relative paths are relative to this file. null means: not set. Delete what you do not need.
"""
_PROFILES = """\
# Variants of this installation, chosen with --profile. A profile has the same keys as the rest of this file and
# overrides it: groups are merged, single values and lists are replaced.
profiles:
  dev:
    deployment:
      name: dev.mlflow.tracking.server
      endpoint: dev-mlflow-tracking-server

  prod:
    account:
      # Secrets, and so database and token, belong to the account: two servers need two accounts.
      username: mlflow-service-prod
    deployment:
      name: prod.mlflow.tracking.server
      endpoint: prod-mlflow-tracking-server
    server:
      # For instance postgresql+psycopg://mlflow:<password>@db.example.com:5432/mlflow
      backend_store_uri: env:MLFLOW_BACKEND_STORE_URI
      artifacts_destination: data/mlflow/prod/artifacts
"""


def reference_yaml() -> str:
    """The annotated file with all defaults; loading it is the same as loading none."""
    parts = [_SCHEMA, _comment(_HEADER.rstrip(), "", keep_lines=True)]
    for name, field in Settings.model_fields.items():
        model = model_in(field.annotation)
        if model is not None and not _is_collection(field):
            entries = [line for k, f in model.model_fields.items() for line in _entry(k, f, (name, k), "  ")]
            parts.append("\n".join([_comment(about(model), ""), f"{name}:", *entries]))
        else:
            parts.append("\n".join(_entry(name, field, (name,), "")))
    return "\n\n".join([*parts, _PROFILES])


def _entry(key: str, field: FieldInfo, path: tuple[str, ...], indent: str) -> Iterator[str]:
    yield _comment(described(field, path), indent)
    model = model_in(field.annotation)
    if model is not None and _is_collection(field):
        is_list = get_origin(field.annotation) is list
        yield f"{indent}# For example:"
        yield f"{indent}# {key}:" + ("" if is_list else f"\n{indent}#   Example:")
        yield from _example(model, f"{indent}#   ", is_list=is_list)
    yield f"{indent}{key}: {scalar(field.get_default())}"


def _example(model: type[BaseModel], indent: str, *, is_list: bool) -> Iterator[str]:
    """The fields of one entry, as a comment."""
    for number, (key, field) in enumerate(model.model_fields.items()):
        value = scalar((field.examples or [field.get_default()])[0])
        lead = "- " if is_list and number == 0 else "  "
        yield f"{indent}{lead}{key}: {value}  # {field.description}"


def described(field: FieldInfo, path: tuple[str, ...]) -> str:
    """Its description, with the environment variables that set it."""
    variables = [name.variable for name in NAMES if name.path == path]
    text = field.description or ""
    if path == ("platform", "ca_file"):
        return f"{text} While it is not set: environment {CA_VARIABLE}."
    return f"{text} Environment: {', '.join(variables)}." if variables else text


def about(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split())


def _comment(text: str, indent: str, *, keep_lines: bool = False) -> str:
    lines = text.splitlines() if keep_lines else textwrap.wrap(text, _WIDTH - len(indent))
    return "\n".join(f"{indent}# {line}".rstrip() for line in lines)


def _is_collection(field: FieldInfo) -> bool:
    return get_origin(field.annotation) in (list, dict)


def scalar(value: Any) -> str:
    """The value on one line of YAML."""
    from ruamel.yaml import YAML

    if value is None:
        return "null"
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = True
    yaml.width = 4096
    stream = io.StringIO()
    yaml.dump([str(value) if isinstance(value, PurePath) else value], stream)
    return stream.getvalue().strip()[1:-1]
