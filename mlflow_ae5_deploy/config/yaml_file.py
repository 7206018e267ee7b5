"""Read a YAML 1.2 file strictly: one document, a mapping, no key twice.

Errors give the line, and no text of the file, because it may be a secret.
"""

from __future__ import annotations

import io
import re
import shlex
import stat
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import ComposerError
from ruamel.yaml.constructor import ConstructorError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.common.text import size
from mlflow_ae5_deploy.common.yaml_limits import MAX_BYTES, ODD_VALUES, UnfitYaml, check_events

_MARK = 2  # characters of the longest mark that the parser quotes
# One quoted piece after the other, so that the text between two of them is not taken for a third.
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


@dataclass(frozen=True)
class YamlFile:
    path: Path
    values: dict[Any, Any]
    lines: Mapping[tuple[Any, ...], int] = field(default_factory=dict)  # path of a key -> its line, from 1
    writable_by_others: bool = False


def read_yaml(path: Path) -> YamlFile:
    """Read the file. Raises Configuration for every problem."""
    text, writable_by_others = _text_of(path)
    lines, twice = _lines(path, text)
    if twice:
        raise Configuration(
            f"The configuration has {len(twice)} keys twice."
            if len(twice) > 1
            else "The configuration has a key twice.",
            where=str(path),
            remedy="Keep one of each.",
            detail="\n".join(f"- {key} (lines {first} and {second})" for key, first, second in twice),
        )
    yaml = _reader()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one repeats a line of the file on stderr
            values = yaml.load(io.StringIO(text))
    except (YAMLError, *ODD_VALUES) as error:
        problem = _syntax_error(path, error)
    else:
        if values is None:
            values = {}
        if isinstance(values, dict):
            return YamlFile(path, values, lines, writable_by_others)
        problem = Configuration("The configuration is not a group of settings (key: value).", where=str(path))
    raise problem


def _reader() -> YAML:
    return YAML(typ="safe", pure=True)


def _text_of(path: Path) -> tuple[str, bool]:
    try:
        with path.open("rb") as stream:
            mode = path.stat().st_mode
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise Configuration(
            "The configuration file does not exist.",
            where=str(path),
            remedy=f"Correct the path, or write one: `mlflow-ae5-deploy init {shlex.quote(str(path))}`.",
        ) from None
    except OSError as error:
        raise Configuration(
            f"The configuration file cannot be read: {error.strerror or error}.", where=str(path)
        ) from None
    if len(raw) > MAX_BYTES:
        raise Configuration(f"The configuration file is larger than {size(MAX_BYTES)}.", where=str(path))
    try:
        return raw.decode("utf-8-sig"), bool(mode & (stat.S_IWGRP | stat.S_IWOTH))
    except UnicodeDecodeError:
        raise Configuration("The configuration file is not UTF-8 text.", where=str(path)) from None


def _lines(path: Path, text: str) -> tuple[dict[tuple[Any, ...], int], list[tuple[str, int, int]]]:
    """Lines of all keys, and the keys that are there twice with both lines."""
    try:
        check_events(_reader().parse(io.StringIO(text)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            root = _reader().compose(io.StringIO(text))
    except UnfitYaml as error:
        problem = Configuration(f"The configuration {error}.", where=str(path), remedy="Write the values out.")
    except (YAMLError, *ODD_VALUES) as error:
        problem = _syntax_error(path, error)
    else:
        lines: dict[tuple[Any, ...], int] = {}
        twice: list[tuple[str, int, int]] = []
        for setting_path, line in _keys(root, ()):
            if setting_path in lines:
                twice.append((".".join(map(str, setting_path)), lines[setting_path], line))
            else:
                lines[setting_path] = line
        return lines, twice
    raise problem


def _keys(node: Node | None, setting_path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], int]]:
    if isinstance(node, MappingNode):
        for key, value in node.value:
            if isinstance(key, ScalarNode) and key.value != "<<":
                yield (*setting_path, key.value), key.start_mark.line + 1
                yield from _keys(value, (*setting_path, key.value))
    elif isinstance(node, SequenceNode):
        for index, item in enumerate(node.value):
            yield (*setting_path, index), item.start_mark.line + 1
            yield from _keys(item, (*setting_path, index))


def _syntax_error(path: Path, error: Exception) -> Configuration:
    line = ""
    problem = "it is not valid YAML"
    remedy = "Put values with special characters (: # * & @ % { [) in quotes."
    if isinstance(error, MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = _parser_message(error)
        if "'\\t'" in problem:
            remedy = "Indent with spaces, not with tabs."
    return Configuration(f"The configuration cannot be read: {problem}.", where=f"{path}{line}", remedy=remedy)


def _parser_message(error: MarkedYAMLError) -> str:
    """The parser's words, except where they quote the file."""
    raw = str(error.problem or "it is not valid YAML")
    if isinstance(error, ComposerError):
        if "alias" in raw:
            return "a value begins with '*' or '&', which is special in YAML; put it in quotes"
        return "it contains more than one document, or defines an anchor twice"
    if isinstance(error, ConstructorError):
        return "a value has a tag ('!...') or an unsupported form"
    return _QUOTED.sub(_masked, raw)


def _masked(quoted: re.Match[str]) -> str:
    """Mask a quoted piece, unless it is a mark or a token's name: `','`, `'<scalar>'`."""
    text = quoted.group()
    harmless = len(text) <= _MARK + 2 or text[1:-1].startswith("<")
    return text if harmless else "'...'"
