"""Changing `anaconda-project.yml` in place: its comments, order and quoting survive (ruamel.yaml's round trip).

A comment between two sections belongs, for the YAML library, to the last entry of the first one. Entries are
appended behind that comment unless it is moved, so it is (`_append`).
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mlflow_ae5_deploy.errors import Configuration, ReleaseRefused
from mlflow_ae5_deploy.release.customisation import Customisation
from mlflow_ae5_deploy.release.project_file import PROJECT_FILE, variable_default

if TYPE_CHECKING:
    from ruamel.yaml import YAML

_LIST_KEYS = ("packages", "dependencies")  # both are anaconda-project's names for the same list
_CONDA_ITEM = re.compile(r"(?P<channel>[^:\s]+::)?(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(?P<rest>[^/@]*)")
_PIP_ITEM = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(?P<extras>\[[^\]]*\])?(?P<spec>[^;]*)(?P<marker>;.*)?")
_FIRST_CHILD = re.compile(r"^\S[^\n]*:[ \t]*\n(?:[ \t]*(?:#[^\n]*)?\n)*( +)[^\s#-]", re.MULTILINE)
_FIRST_ITEM = re.compile(r"^( *)[^\s#-][^\n]*:[ \t]*\n(?:[ \t]*(?:#[^\n]*)?\n)*( *)- ", re.MULTILINE)


def edit_project_file(data: bytes, wanted: Customisation, where: str) -> tuple[bytes, list[str]]:
    """The edited file and what was changed, in sentences. Raises ReleaseRefused or Configuration."""
    text = data.decode("utf-8-sig")
    yaml = _round_trip(text)
    document = yaml.load(text)
    if not isinstance(document, dict):
        raise ReleaseRefused(f"{PROJECT_FILE} is not a mapping of keys to values.", where=where)
    changes = [
        *_set_variables(document, wanted.variables),
        *_pin(document, wanted.dependencies),
        *_prefer(document, wanted.channels),
        *_add_commands(document, wanted.commands, where),
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
    """A YAML scalar that every YAML version reads back as this text: `0.10`, `no`, `12:30` and the like are quoted."""
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
            _append(section, name, _text(value))
            yield f"Variable {name} was added (the release does not know it), with the default {str(value)!r}."
            continue
        old = variable_default(section[name])
        if old is not None and str(old) == str(value):
            continue
        if isinstance(section[name], dict):
            section[name]["default"] = _text(value)
        else:
            section[name] = _text(value)
        before = "no default" if old is None else repr(str(old))
        yield f"Variable {name} has the default {str(value)!r} instead of {before}."


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
            _append(document, "variables", section)
    return section


def _pin(document: Any, dependencies: Mapping[str, str]) -> Iterator[str]:
    for package, spec in sorted(dependencies.items()):
        changed = [
            f"Dependency {item} was {old}, in {place}."
            for place, packages in _package_lists(document)
            for old, item in _pin_in(packages, package, spec)
        ]
        stands = any(_find(packages, package) for _, packages in _package_lists(document))
        if stands:
            yield from changed
            continue
        for place, env_spec in _env_specs(document):
            _append_item(_list_of(env_spec), f"{package}{spec}")
            yield f"Dependency {package}{spec} was added to {place}."


def _env_specs(document: Any) -> Iterator[tuple[str, Any]]:
    from ruamel.yaml.comments import CommentedMap

    specs = document.get("env_specs")
    if not isinstance(specs, dict) or not specs:  # then the document's own packages are the one environment
        yield "the project", document
        return
    for name in specs:
        if not isinstance(specs[name], dict):
            specs[name] = CommentedMap()
        yield f"env_spec {name}", specs[name]


def _package_lists(document: Any) -> Iterator[tuple[str, Any]]:
    places = [("the project", document), *_env_specs(document)]
    seen: list[Any] = []
    for place, holder in places:
        for key in _LIST_KEYS:
            packages = holder.get(key)
            if isinstance(packages, list) and not any(packages is other for other in seen):
                seen.append(packages)
                yield place, packages


def _list_of(holder: Any) -> Any:
    from ruamel.yaml.comments import CommentedSeq

    for key in _LIST_KEYS:
        if isinstance(holder.get(key), list):
            return holder[key]
    _append(holder, "packages", CommentedSeq())
    return holder["packages"]


def _find(packages: Any, package: str) -> list[tuple[Any, int, bool]]:
    """(list, index, whether it is a pip list) of every entry for `package`."""
    found: list[tuple[Any, int, bool]] = []
    for index, item in enumerate(packages):
        if isinstance(item, dict) and isinstance(item.get("pip"), list):
            pip = item["pip"]
            found += [(pip, n, True) for n, entry in enumerate(pip) if _name(_PIP_ITEM, entry) == _normal(package)]
        elif _name(_CONDA_ITEM, item) == _normal(package):
            found.append((packages, index, False))
    return found


def _name(pattern: re.Pattern[str], item: Any) -> str | None:
    found = pattern.match(item.strip()) if isinstance(item, str) else None
    return _normal(found["name"]) if found else None


def _normal(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


def _pin_in(packages: Any, package: str, spec: str) -> list[tuple[str, str]]:
    """Write the spec at every place of the package; returns (old, new) where they differ."""
    changed = []
    for holder, index, is_pip in _find(packages, package):
        old = str(holder[index])
        new = _pip_entry(old.strip(), spec) if is_pip else _conda_entry(old.strip(), spec)
        if new != old:
            holder[index] = new
            changed.append((old, new))
    return changed


def _conda_entry(old: str, spec: str) -> str:
    found = _CONDA_ITEM.match(old)
    assert found is not None  # noqa: S101 - _find matched it
    return f"{found['channel'] or ''}{found['name']}{spec}"


def _pip_entry(old: str, spec: str) -> str:
    """conda's `=2.9` means "any 2.9"; pip writes that `==2.9.*`."""
    if re.match(r"=[^=]", spec):
        spec = f"={spec}" if spec.endswith("*") else f"={spec}.*"
    found = _PIP_ITEM.match(old)
    assert found is not None  # noqa: S101 - _find matched it
    marker = f" {found['marker']}" if found["marker"] else ""
    return f"{found['name']}{found['extras'] or ''}{spec}{marker}"


def _prefer(document: Any, channels: tuple[str, ...]) -> Iterator[str]:
    from ruamel.yaml.comments import CommentedSeq

    if not channels:
        return
    section = document.get("channels")
    if not isinstance(section, list):
        section = CommentedSeq()
        if "channels" in document:
            document["channels"] = section
        else:
            _append(document, "channels", section)
    wanted = list(dict.fromkeys(channels))
    if list(section[: len(wanted)]) == wanted:
        return
    for channel in reversed(wanted):
        if channel in section:
            section.remove(channel)
        section.insert(0, channel)
    yield f"Channels {', '.join(wanted)} come first."


def _add_commands(document: Any, commands: Mapping[str, Mapping[str, Any]], where: str) -> Iterator[str]:
    from ruamel.yaml.comments import CommentedMap

    specs = document.get("env_specs") or {}
    section = document.get("commands")
    for name, command in sorted(commands.items()):
        env_spec = command.get("env_spec") or "default"
        if specs and env_spec not in specs:
            raise Configuration(
                f"Command {name} wants env_spec {env_spec!r}, which the release does not have.",
                where=where,
                remedy=f"It has: {', '.join(map(str, specs))}.",
            )
        entry = CommentedMap(unix=_text(command["unix"].strip()), env_spec=env_spec)
        entry["supports_http_options"] = bool(command.get("supports_http_options", False))
        if command.get("description"):
            entry["description"] = _text(command["description"])
        if name in section:
            if dict(section[name]) == dict(entry):
                continue
            section[name] = entry
            yield f"Command {name} was replaced."
        else:
            _append(section, name, entry)
            yield f"Command {name} was added."


def _append(section: Any, key: str, value: Any) -> None:
    holder, last = _last_leaf(section)
    section[key] = value
    _move_comment(holder, last, *_last_leaf(section))


def _append_item(items: Any, value: str) -> None:
    holder, last = _last_leaf(items)
    items.append(value)
    _move_comment(holder, last, *_last_leaf(items))


def _last_leaf(node: Any) -> tuple[Any, Any]:
    """The innermost container at the end of `node`, and the key of its last entry; that entry carries the comment."""
    holder, last = node, None
    while isinstance(node, dict | list) and node:
        holder = node
        last = next(reversed(node)) if isinstance(node, dict) else len(node) - 1
        node = node[last]
    return holder, last


def _move_comment(holder: Any, last: Any, new_holder: Any, new_key: Any) -> None:
    """Let the lines after the entry `last` follow the new entry; a comment on its own line stays with it."""
    slot = 2 if isinstance(holder, dict) else 0
    tokens: Any = holder.ca.items.get(last) if last is not None else None
    token = tokens[slot] if tokens else None
    if token is None or isinstance(token, list):
        return
    own, newline, following = token.value.partition("\n")
    if not following:
        return
    new_slot = 2 if isinstance(new_holder, dict) else 0
    moved = type(token)("\n" + following, token.start_mark, None)
    fresh: list[Any] = [None] * (4 if isinstance(new_holder, dict) else 2)
    fresh[new_slot] = moved
    new_holder.ca.items[new_key] = fresh
    if own.strip():
        token.value = own + newline
    else:
        tokens[slot] = None
