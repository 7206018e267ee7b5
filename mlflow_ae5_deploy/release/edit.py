"""Edit `anaconda-project.yml` in place; comments, order and quoting survive."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mlflow_ae5_deploy.common.errors import Configuration, ReleaseRefused
from mlflow_ae5_deploy.common.yaml_limits import ODD_VALUES
from mlflow_ae5_deploy.config.settings import CommandSettings, SlipstreamSettings
from mlflow_ae5_deploy.release.comments import append, rearrange, replace
from mlflow_ae5_deploy.release.pins import pin
from mlflow_ae5_deploy.release.project_file import PROJECT_FILE, variable_default

if TYPE_CHECKING:
    from ruamel.yaml import YAML

_FIRST_CHILD = re.compile(r"^\S[^\n]*:[ \t]*\n(?:[ \t]*(?:#[^\n]*)?\n)*( +)[^\s#-]", re.MULTILINE)
_FIRST_ITEM = re.compile(r"^( *)[^\s#-][^\n]*:[ \t]*\n(?:[ \t]*(?:#[^\n]*)?\n)*( *)- ", re.MULTILINE)


def edit_project_file(data: bytes, desired: SlipstreamSettings, where: str) -> tuple[bytes, list[str]]:
    """The edited file, and a line on each change.

    Raises ReleaseRefused or Configuration.
    """
    from ruamel.yaml.error import YAMLError

    try:
        return _edited(data, desired, where)
    except (YAMLError, *ODD_VALUES):  # values with tags can be read, but not always changed
        raise ReleaseRefused(f"{PROJECT_FILE} has values with tags, and cannot be edited.", where=where) from None


def _edited(data: bytes, desired: SlipstreamSettings, where: str) -> tuple[bytes, list[str]]:
    text = data.decode("utf-8-sig")
    yaml = _round_trip(text)
    document = yaml.load(text)
    if not isinstance(document, dict):
        raise ReleaseRefused(f"{PROJECT_FILE} is not a mapping of keys to values.", where=where)
    changes = [
        *_set_variables(document, desired.variables),
        *pin(document, desired.dependencies),
        *_prefer(document, desired.channels),
        *_add_commands(document, desired.commands, where),
    ]
    if not changes:
        return data, []
    out = io.StringIO()
    yaml.dump(document, out)
    return out.getvalue().encode(), changes


def _round_trip(text: str) -> YAML:
    from ruamel.yaml import YAML

    yaml = YAML(typ="rt", pure=True)
    yaml.preserve_quotes = True
    yaml.width = 1 << 16
    mapping = Counter(len(found) for found in _FIRST_CHILD.findall(text)).most_common(1)
    offset = Counter(len(item) - len(key) for key, item in _FIRST_ITEM.findall(text)).most_common(1)
    shift = max(0, offset[0][0]) if offset else 2
    yaml.indent(mapping=mapping[0][0] if mapping else 2, sequence=shift + 2, offset=shift)
    return yaml


def _text(value: Any) -> Any:
    """A scalar that every YAML version reads as this text: `0.10` and `no` are quoted."""
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString
    from yaml import YAMLError, safe_load

    text = str(value)
    try:
        plain = safe_load(text) == text
    except (YAMLError, ValueError):
        plain = False
    return text if plain else DoubleQuotedScalarString(text)


def _set_variables(document: Any, variables: Mapping[str, str]) -> Iterator[str]:
    if not variables:
        return
    section = _variables_section(document)
    for name, value in sorted(variables.items()):
        if name not in section:
            append(section, name, _text(value))
            yield f"variable {name}: added ({value})"
            continue
        old = variable_default(section[name])
        if old is not None and str(old) == str(value):
            continue
        if isinstance(section[name], dict):
            section[name]["default"] = _text(value)
        else:
            section[name] = _text(value)
        yield f"variable {name}: {'no value' if old is None else old} → {value}"


def _variables_section(document: Any) -> Any:
    from ruamel.yaml.comments import CommentedMap

    section = document.get("variables")
    if isinstance(section, list):  # names without defaults
        section = document["variables"] = CommentedMap((str(name), None) for name in section)
    elif section is None:
        section = CommentedMap()
        if "variables" in document:
            document["variables"] = section
        else:
            append(document, "variables", section)
    return section


def _prefer(document: Any, channels: list[str]) -> Iterator[str]:
    from ruamel.yaml.comments import CommentedSeq

    if not channels:
        return
    section = document.get("channels")
    if not isinstance(section, list):
        section = CommentedSeq()
        if "channels" in document:
            document["channels"] = section
        else:
            append(document, "channels", section)
    order = [*channels, *(channel for channel in section if channel not in channels)]
    if order == list(section):
        return
    rearrange(section, order)
    yield f"channels: {', '.join(channels)} first"


def _add_commands(document: Any, commands: Mapping[str, CommandSettings], where: str) -> Iterator[str]:
    from ruamel.yaml.comments import CommentedMap

    specs = document.get("env_specs") or {}
    section = document.get("commands")
    for name, command in sorted(commands.items()):
        present = section.get(name)
        inherited = {k: v for k, v in present.items() if v is not None} if isinstance(present, Mapping) else {}
        desired = {"env_spec": "default", "supports_http_options": False} | inherited
        desired |= command.model_dump(exclude_none=True)
        if specs and desired["env_spec"] not in specs:
            raise Configuration(
                f"Command {name} needs env_spec {desired['env_spec']!r}, which the release does not have.",
                where=where,
                remedy=f"It has: {', '.join(map(str, specs))}.",
            )
        entry = CommentedMap(unix=_text(command.unix.strip()), env_spec=desired["env_spec"])
        entry["supports_http_options"] = desired["supports_http_options"]
        _check_one_line(name, entry)
        if desired.get("description"):
            entry["description"] = _text(desired["description"])
        if name in section:
            if dict(section[name]) == dict(entry):
                continue
            replace(section, name, entry)
            yield f"command {name}: replaced"
        else:
            append(section, name, entry)
            yield f"command {name}: added"


def _check_one_line(name: str, entry: Mapping[str, Any]) -> None:
    """Refuse several lines with inherited options; the settings check the others."""
    if entry["supports_http_options"] and "\n" in entry["unix"]:
        raise Configuration(
            "AE5 appends its options to the end of the 'unix' line, so it must be one line.",
            where=f"command {name}",
            remedy="Write one line, or set `supports_http_options: false`.",
        )
