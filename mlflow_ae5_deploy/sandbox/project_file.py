"""Read `anaconda-project.yml` as anaconda-project does, as far as it is used here."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow_ae5_deploy.common.yaml_limits import UnfitYaml, load
from mlflow_ae5_deploy.sandbox.errors import bad


@dataclass(frozen=True)
class SandboxProjectFile:
    commands: tuple[dict[str, Any], ...]
    """as the API lists them: id, unix, windows?, env_spec, supports_http_options, default?"""
    variables: dict[str, str | None]
    """name -> default, None where there is none"""
    env_specs: tuple[str, ...]

    def command(self, name: str) -> dict[str, Any] | None:
        return next((c for c in self.commands if c["id"] == name), None)


def read_project_file(path: Path) -> SandboxProjectFile:
    """Read and check the file. Raises ApiError 400."""
    try:
        data = load(path)
    except UnfitYaml as error:
        raise bad(f"anaconda-project.yml {error}") from error
    if not isinstance(data, dict):
        raise bad("anaconda-project.yml is not a mapping")
    env_specs = tuple(_mapping(data, "env_specs")) or ("default",)
    return SandboxProjectFile(
        _commands(_mapping(data, "commands"), env_specs), _variables(data.get("variables")), env_specs
    )


def _mapping(data: dict[str, Any], name: str) -> dict[str, Any]:
    value = data.get(name) or {}
    if not isinstance(value, dict):
        raise bad(f"anaconda-project.yml: {name} is not a mapping")
    return value


def _commands(section: dict[str, Any], env_specs: tuple[str, ...]) -> tuple[dict[str, Any], ...]:
    default = "default" if "default" in section else next(iter(section), None)
    fallback_spec = "default" if "default" in env_specs else env_specs[0]
    found: list[dict[str, Any]] = []
    for name, attributes in section.items():
        if not isinstance(attributes, dict):
            raise bad(f"anaconda-project.yml: command {name} is not a mapping")
        web = "notebook" in attributes or "bokeh_app" in attributes
        command: dict[str, Any] = {
            "id": str(name),
            "env_spec": str(attributes.get("env_spec", fallback_spec)),
            "supports_http_options": bool(attributes.get("supports_http_options", web)),
        }
        command |= {key: str(attributes[key]) for key in ("unix", "windows") if key in attributes}
        if name == default:
            command["default"] = True
        found.append(command)
    return tuple(found)


def _variables(section: Any) -> dict[str, str | None]:
    if section is None:
        return {}
    if isinstance(section, list):
        return {str(name): None for name in section}
    if not isinstance(section, dict):
        raise bad("anaconda-project.yml: variables is neither a list nor a mapping")
    found: dict[str, str | None] = {}
    for name, value in section.items():
        default = value.get("default") if isinstance(value, dict) else value
        if isinstance(default, bool) or not (default is None or isinstance(default, str | int | float)):
            raise bad(f"default value for variable {name} must be null, a string, or a number")
        found[str(name)] = None if default is None else str(default)
    return found


@dataclass(frozen=True)
class SandboxHttpOptions:
    """Options that AE5 passes to a web command."""

    port: int
    address: str
    host: str
    iframe_hosts: str

    def as_arguments(self) -> list[str]:
        return [
            *("--anaconda-project-host", self.host),
            *("--anaconda-project-port", str(self.port)),
            *("--anaconda-project-iframe-hosts", self.iframe_hosts),
            "--anaconda-project-use-xheaders",
            "--anaconda-project-no-browser",
            f"--anaconda-project-address={self.address}",
        ]


def shell_line(command: dict[str, Any], options: SandboxHttpOptions | None, env: dict[str, str]) -> str:
    """The line for `sh -c`, with options appended or its template filled in."""
    line: str = command["unix"]
    if command["supports_http_options"]:
        arguments = options.as_arguments() if options else []
        return " ".join([line, *map(shlex.quote, arguments)])
    if "{{" not in line and "{%" not in line:
        return line
    from jinja2.sandbox import SandboxedEnvironment

    context: dict[str, Any] = dict(env)
    if options:
        context |= {"port": options.port, "address": options.address, "host": options.host}
        context |= {"iframe_hosts": options.iframe_hosts, "use_xheaders": True, "no_browser": True}
    return SandboxedEnvironment().from_string(line).render(context)


def unset_variables(project_file: SandboxProjectFile, env: dict[str, str]) -> list[str]:
    """Variables without a value and a default; an empty string counts as unset."""
    return [name for name, default in project_file.variables.items() if not (env.get(name) or default)]
