"""What can be changed about a release before it is uploaded, and which of it is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from mlflow_ae5_deploy.common.errors import Configuration

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SPEC = re.compile(r"(?:==?|[<>]=?|!=|~=)[A-Za-z0-9.*+!_<>=,|~-]*[A-Za-z0-9*]")
_COMMAND = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_PLACEHOLDERS = {"", "unset"}  # how projects say "no value": AE5 does not start while a variable has none
_COMMAND_KEYS = {"unix", "env_spec", "supports_http_options", "description"}

# anaconda-project treats names that end so as encrypted; the others are what clouds call their keys
_SECRET_NAME = re.compile(r"(?:PASSWORD|PASSWD|TOKEN|SECRET|SECRET_KEY|ACCESS_KEY|PRIVATE_KEY|API_KEY)$", re.IGNORECASE)
_URI_PASSWORD = re.compile(r"://[^\s/@:'\"]*:[^\s/@'\"]+@|://[^\s/@'\"]*:[^\s'\"]+@[^\s/@'\"]+")
_KEY_VALUE = re.compile(
    r"(?:password|passwd|pwd|accountkey|sharedaccesskey|sharedaccesssignature|secret|token|sig)\s*=\s*[^\s;&]",
    re.IGNORECASE,
)
_CHANNEL_TOKEN = re.compile(r"/t/[^/]+")


@dataclass(frozen=True)
class Customization:
    """Changes to a release. Nothing in it may be a secret: archives are readable by the project's collaborators.

    variables:    name -> default in anaconda-project.yml; unknown names are added.
    dependencies: package -> spec ("==3.17.2", "=2.9", ">=2,<3"). It is applied wherever the package stands (conda
                  `packages` or their `pip` list, of any env spec); a package that stands nowhere is added to the
                  conda packages of every env spec.
    channels:     put in front of the channels that are there, in this order.
    commands:     name -> {unix, env_spec, supports_http_options, description}; what is left out (or
                  None) is as in the release's command of this name; without one it is default, false and nothing.
    overlay:      a folder whose files are laid over the release's, before the changes above are made.
    """

    variables: Mapping[str, str] = field(default_factory=dict)
    dependencies: Mapping[str, str] = field(default_factory=dict)
    channels: tuple[str, ...] = ()
    commands: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    overlay: Path | None = None

    @property
    def edits_project_file(self) -> bool:
        return bool(self.variables or self.dependencies or self.channels or self.commands)


def holds_password(text: str) -> bool:
    """Whether a text has a password, key or token in it, as a URI's userinfo or as `password=...`."""
    return any(_URI_PASSWORD.search(form) or _KEY_VALUE.search(form) for form in (text, unquote(text)))


def check(customisation: Customization) -> None:
    """Raises Configuration for what cannot, or must not, be put into an archive."""
    for name, value in customisation.variables.items():
        check_variable(name, value)
    for package, spec in customisation.dependencies.items():
        _check_dependency(package, spec)
    for channel in customisation.channels:
        _check_channel(channel)
    for name, command in customisation.commands.items():
        _check_command(name, command)
    overlay = customisation.overlay
    if overlay is not None and not overlay.is_dir():
        raise Configuration("The overlay is not a folder, or not there.", where=f"overlay {overlay}")


def check_variable(name: str, value: Any) -> None:
    where = f"variable {name}"
    if not _VARIABLE.fullmatch(name):
        raise Configuration(f"{name!r} is not a name for a variable.", where=where, remedy="Use letters, digits and _")
    if name.upper().startswith("CONDA_"):
        raise Configuration("Names that begin with CONDA_ are reserved by anaconda-project.", where=where)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Configuration(
            f"The value is a {type(value).__name__}; anaconda-project.yml takes texts and numbers.",
            where=where,
            remedy='Put it in quotes, for example "true".',
        )
    if "\0" in str(value):
        raise Configuration("The value has a NUL character in it.", where=where)
    refuse_secret(name, str(value))


def refuse_secret(name: str, value: str) -> None:
    """Raises Configuration when a variable's value may be a secret; the message does not repeat the value."""
    if value not in _PLACEHOLDERS and (_SECRET_NAME.search(name) or holds_password(value)):
        raise Configuration(
            "The value looks like a secret, and everybody with access to the project could read it in its archive.",
            where=f"variable {name}",
            remedy=f"Store it as a secret of the service account (named {name}) instead of slip-streaming it.",
        )


def _check_dependency(package: str, spec: Any) -> None:
    where = f"dependency {package}"
    if not _PACKAGE.fullmatch(package):
        raise Configuration(f"{package!r} is not the name of a package.", where=where)
    if not isinstance(spec, str) or not _SPEC.fullmatch(spec):
        raise Configuration(
            f"{spec!r} is not a version specification.", where=where, remedy='For example "==3.17.2" or ">=2.9,<3".'
        )


def _check_channel(channel: Any) -> None:
    if not isinstance(channel, str) or not channel or any(c.isspace() for c in channel):
        raise Configuration(f"{channel!r} is not a channel.", where="channels")
    if "@" in channel.partition("://")[2].partition("/")[0] or _CHANNEL_TOKEN.search(channel):
        raise Configuration(
            "A channel's address has a token or password in it, which everybody could read in the archive.",
            where="channels",
            remedy="Let the platform's administrator configure the channel's credentials.",
        )


def _check_command(name: str, command: Any) -> None:
    where = f"command {name}"
    if not _COMMAND.fullmatch(name):
        raise Configuration(f"{name!r} is not a name for a command.", where=where)
    if not isinstance(command, Mapping):
        raise Configuration("A command is a mapping with the key 'unix'.", where=where)
    unknown = sorted(set(command) - _COMMAND_KEYS)
    if unknown:
        raise Configuration(
            f"Unknown key {unknown[0]!r}.", where=where, remedy=f"Known are: {', '.join(sorted(_COMMAND_KEYS))}."
        )
    unix = command.get("unix")
    if not isinstance(unix, str) or not unix.strip():
        raise Configuration("The line to run ('unix') is missing.", where=where)
    for key in ("env_spec", "description"):
        if command.get(key) is not None and not isinstance(command[key], str):
            raise Configuration(f"{key!r} is not a text.", where=where)
    if not isinstance(command.get("supports_http_options"), bool | None):
        raise Configuration("'supports_http_options' is neither true nor false.", where=where)
    if command.get("supports_http_options") and "\n" in unix.strip():
        raise Configuration(
            "AE5 appends its options to the end of the 'unix' line, so it must be one line.", where=where
        )
    if holds_password(unix):
        raise Configuration(
            "The 'unix' line has a password in it.", where=where, remedy="Store it as a secret and read it there."
        )
