"""Write the generated parts of the reference pages and files again, from the code.

    python tools/reference.py             write what differs
    python tools/reference.py --check     only name what differs (exit code 1)

A page has marks around a generated part: `<!-- generated: commands -->` and `<!-- end -->`.
"""

from __future__ import annotations

import functools
import json
import re
import sys
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "project_template")]

from mlflow_ae5_server.common import errors as job_errors  # noqa: E402
from mlflow_ae5_server.common.contract import EXIT_CODES  # noqa: E402

from mlflow_ae5_deploy.cli.help import explained, signature  # noqa: E402
from mlflow_ae5_deploy.cli.verbs import SECTIONS, command_tree  # noqa: E402
from mlflow_ae5_deploy.common import errors  # noqa: E402
from mlflow_ae5_deploy.config.problems import model_in  # noqa: E402
from mlflow_ae5_deploy.config.secret_refs import SecretRef  # noqa: E402
from mlflow_ae5_deploy.config.settings import Settings  # noqa: E402
from mlflow_ae5_deploy.operations.health_problem import CODES  # noqa: E402
from tools import json_forms  # noqa: E402
from tools.annotated_settings import about, described, reference_yaml, scalar  # noqa: E402

REFERENCE = ROOT / "runbooks" / "reference"
CONFIG = ROOT / "mlflow_ae5_deploy" / "config"
REFERENCE_PATTERN = "^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+|prompt)$"  # see SecretRef.parse
SHARED = 5  # commands with the same option: it is described once
# Exit codes of jobs that no error class stands for.
_OF_JOBS = {
    0: "done; also a garbage collection that was skipped because another job runs",
    1: "MLflow's own command failed, or a bug",
    23: "incomplete: some artifacts could not be removed, or are not in the snapshot",
    130: "interrupted",
}


# commands ---------------------------------------------------------------------------------------------------------


def commands() -> str:
    """Every command with its options; those that many verbs have once, at the end."""
    found = [(words, command) for words, command in every_command() if not hasattr(command, "commands")]
    users: dict[tuple[str, str], list[str]] = {}
    for words, command in found:
        for record in _records(command):
            users.setdefault(record, []).append(" ".join(words))
    shared = {record: verbs for record, verbs in users.items() if len(verbs) >= SHARED}
    parts = []
    for section, verbs in SECTIONS.items():
        parts += [f"## {section}", ""]
        for words, command in every_command():
            if words[0] in verbs:
                parts += [f"{'#' * (2 + len(words))} `{' '.join(words)}`", "", *_command(command, shared), ""]
    everyone = [" ".join(words) for words, _ in found]
    rows = [(*record, _verbs(verbs, everyone)) for record, verbs in shared.items()]
    return "\n".join([*parts, "## Shared options", "", *_table(("option", "meaning", "verbs"), rows)])


def _verbs(having: Sequence[str], everyone: Sequence[str]) -> str:
    lacking = [verb for verb in everyone if verb not in having]
    if not lacking:
        return "all"
    shorter, lead = (lacking, "all except ") if len(lacking) < len(having) else (having, "")
    return lead + ", ".join(f"`{verb}`" for verb in shorter)


def every_command(group: Any = None, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every verb and sub-verb, by its words."""
    for name, command in (group or command_tree()).commands.items():
        yield (*words, name), command
        if hasattr(command, "commands"):
            yield from every_command(command, (*words, name))


def _command(command: Any, shared: Container[tuple[str, str]]) -> Iterator[str]:
    yield _escaped(" ".join((command.help or "").split()))
    if own := [record for record in _records(command) if record not in shared]:
        yield ""
        yield from _table(("option", "meaning"), own)
    if command.epilog:
        yield ""
        yield from ("```console", *(line.rstrip() for line in command.epilog.strip("\n").splitlines()), "```")


def _records(command: Any) -> list[tuple[str, str]]:
    """(option with its metavar, meaning) as `--help` shows them."""
    return [(signature(parameter), explained(parameter)) for parameter in command.params if not parameter.hidden]


# exit codes -------------------------------------------------------------------------------------------------------


def exit_codes() -> str:
    """Of verbs and of jobs, in one table."""
    tree, _, others = (errors.__doc__ or "").partition("Not errors")
    meanings = dict(re.findall(r"^[ |`-]+-- (\w+) +\d+  (.+)$", tree, re.M))
    rows = [
        (thing.exit_code, f"`{name}`", meanings[name])
        for name, thing in vars(errors).items()
        if isinstance(thing, type) and issubclass(thing, errors.DeployError) and name in meanings
    ]
    rows += [(int(code), "", " ".join(text.split())) for code, text in re.findall(r"(\d+) ([^,.]+?)(?=[,.]\s)", others)]
    jobs = {code: [text] for code, text in _OF_JOBS.items() if code in EXIT_CODES.values()}
    for code, text in re.findall(r"^ {6}\w+ +(\d+)   (.+)$", job_errors.__doc__ or "", re.M):
        jobs.setdefault(int(code), []).append(text)
    cells = []
    for code, kind, meaning in sorted(rows):
        cells.append((str(code), kind, meaning, "; ".join(jobs.pop(code, []))))
    if jobs:
        raise AssertionError(f"exit codes of jobs that the tool does not know: {jobs}")
    return "\n".join(_table(("code", "kind", "meaning", "of a job"), cells))


# settings ---------------------------------------------------------------------------------------------------------


def settings() -> str:
    """One table for each group of settings."""
    parts = []
    for name, field in Settings.model_fields.items():
        model = model_in(field.annotation)
        if model is None:
            parts.append(_settings(f"`{name}`", "", [(name, field, (name,))]))
            continue
        parts.append(_settings(f"`{name}`", about(model), [(k, f, (name, k)) for k, f in model.model_fields.items()]))
        for key, inner in model.model_fields.items():
            if (nested := model_in(inner.annotation)) is not None:
                inside = [(k, f, (name, key, "NAME", k)) for k, f in nested.model_fields.items()]
                parts.append(_settings(f"`{name}.{key}.NAME`", about(nested), inside))
    return "\n\n".join(parts)


def _settings(title: str, text: str, fields: Sequence[tuple[str, FieldInfo, tuple[str, ...]]]) -> str:
    rows = []
    for key, field, path in fields:
        default = "(required)" if field.is_required() else f"`{scalar(field.get_default())}`"
        rows.append((f"`{key}`", default, described(field, path)))
    lines = [f"### {title}", *([text, ""] if text else []), *_table(("setting", "default", "meaning"), rows)]
    lines.insert(1, "")
    return "\n".join(lines)


# the JSON Schema of the configuration -----------------------------------------------------------------------------


class _ConfigurationSchema(GenerateJsonSchema):
    """References to secrets are texts there."""

    def is_instance_schema(self, schema: Any) -> dict[str, Any]:
        if schema["cls"] is not SecretRef:
            return super().is_instance_schema(schema)
        return {"type": "string", "pattern": REFERENCE_PATTERN}

    def default_schema(self, schema: Any) -> dict[str, Any]:
        """Without the default of a whole group, which is that of its settings."""
        made = super().default_schema(schema)
        if isinstance(schema.get("default"), BaseModel):
            made.pop("default", None)
        return made


def configuration_schema() -> str:
    """For editors; `init` writes it beside the configuration."""
    made = Settings.model_json_schema(schema_generator=_ConfigurationSchema)
    for definition in [made, *made["$defs"].values()]:
        definition["description"] = " ".join(definition["description"].split())
        for name, field in definition["properties"].items():
            field.pop("title", None)  # the name of the setting once more
            if "$ref" in field or field.get("type") == "object":
                definition["properties"][name] = _or_empty(field)
    group = {name: made[name] for name in ("type", "properties", "additionalProperties")}
    made["properties"] = group["properties"] | {
        "profiles": _or_empty(
            {
                "type": "object",
                "description": "Variants of this installation, chosen with --profile.",
                "additionalProperties": _or_empty({"$ref": "#/$defs/Profile"}),
            }
        )
    }
    made["$defs"]["Profile"] = group
    made["title"] = "Configuration of mlflow-ae5-deploy"
    made["description"] = "Every setting, with its default. Secrets are references."
    return _json({"$schema": json_forms.DRAFT, **made})


def _or_empty(group: dict[str, Any]) -> dict[str, Any]:
    """A group whose settings are all comments is null in YAML."""
    return {"anyOf": [group, {"type": "null"}]}


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


# the forms of JSON documents --------------------------------------------------------------------------------------


def forms() -> str:
    """Verbs with their outcomes, and the schema of each."""
    rows = []
    for verb, (_, outcomes) in json_forms.FORMS.items():
        name = schema_file(verb).name
        rows.append((f"`{verb}`", ", ".join(f"`{outcome}`" for outcome in outcomes), f"[{name}](schemas/{name})"))
    return "\n".join(_table(("verb", "outcome", "schema"), rows))


def problems() -> str:
    """The problems that `status` reports."""
    rows = [(f"`{row.code}`", row.severity, row.meaning) for row in CODES.values()]
    return "\n".join(_table(("code", "severity", "meaning"), rows))


# features of MLflow -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Features:
    """The content of features.yaml."""

    steps: list[str]
    features: list[dict[str, Any]]
    options: dict[str, str]
    others: dict[str, list[str]]
    walk: dict[str, str]


@functools.cache
def features() -> Features:
    return Features(**YAML(typ="safe", pure=True).load(ROOT / "tools" / "features.yaml"))


def feature_table() -> str:
    """Every feature, with the steps that have no test. Supported is one with tests of every step."""
    rows = []
    for feature in features().features:
        missing = [step for step in features().steps if step not in feature.get("tests", ())]
        ours = "refused" if "refused" in feature else "untested" if missing else "supported"
        notes = [feature.get("refused") or feature.get("note", "")]
        if ours == "untested":
            notes.append("not tested: " + (", ".join(missing) if len(missing) < len(features().steps) else "any step"))
        rows.append((feature["name"], _variables_as_code(feature["switch"]), ours, "; ".join(filter(None, notes))))
    return "\n".join(_table(("feature", "switch", "here", "notes"), rows))


def option_table() -> str:
    rows = [(f"`{option}`", _variables_as_code(ours)) for option, ours in features().options.items()]
    return "\n".join(_table(("of `mlflow server`", "here"), rows))


def _variables_as_code(text: str) -> str:
    return re.sub(r"\bMLFLOW_[A-Z_0-9]+\b", r"`\g<0>`", text)


def schema_file(verb: str) -> Path:
    """The schema of a verb's document, which verbs of the same form share."""
    return REFERENCE / "schemas" / f"{json_forms.like(verb)[0].replace(' ', '-')}.json"


# writing ----------------------------------------------------------------------------------------------------------


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    ruler = ["---"] * len(heads)
    code = heads[0] == "option"
    cells = [[_cell(cell, code=code and number == 0) for number, cell in enumerate(row)] for row in rows]
    return [f"| {' | '.join(row)} |" for row in ([*heads], ruler, *cells)]


def _cell(text: str, *, code: bool) -> str:
    return f"`{text}`".replace("|", "\\|") if code else _escaped(text).replace("|", "\\|")


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;")


PARTS: dict[str, tuple[Path, Callable[[], str]]] = {
    "commands": (REFERENCE / "commands.md", commands),
    "exit codes": (REFERENCE / "exit-codes.md", exit_codes),
    "settings": (REFERENCE / "settings.md", settings),
    "forms": (REFERENCE / "json.md", forms),
    "problems": (REFERENCE / "json.md", problems),
    "features": (REFERENCE / "features.md", feature_table),
    "options": (REFERENCE / "features.md", option_table),
}
FILES: dict[Path, Callable[[], str]] = {
    CONFIG / "reference.yaml": reference_yaml,
    CONFIG / "schema.json": configuration_schema,
    **{
        schema_file(verb): functools.partial(lambda verb: _json(json_forms.schema(verb)), verb)
        for verb in json_forms.FORMS
    },
}


def current() -> dict[Path, str]:
    """Every file with a generated part, as it has to be."""
    texts = {path: make() for path, make in FILES.items()}
    for name, (path, make) in PARTS.items():
        text = texts.get(path) or path.read_text(encoding="utf-8")
        start, end = f"<!-- generated: {name} -->\n", "\n<!-- end -->"
        before, found, rest = text.partition(start)
        if not found or end not in rest:
            raise SystemExit(f"{path} has no part {start.strip()} ... {end.strip()}")
        texts[path] = f"{before}{start}{make().strip()}{end}{rest.partition(end)[2]}"
    return texts


def main(arguments: Sequence[str]) -> int:
    stale = {path: text for path, text in current().items() if not path.exists() or path.read_text("utf-8") != text}
    for path, text in stale.items():
        print(path.relative_to(ROOT))
        if arguments != ["--check"]:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    unused = superfluous()
    for path in unused:
        print(path.relative_to(ROOT), "is of no verb")
        if arguments != ["--check"]:
            path.unlink()
    return 1 if (stale or unused) and arguments == ["--check"] else 0


def superfluous() -> set[Path]:
    """Schemas that belong to no verb."""
    return set((REFERENCE / "schemas").iterdir()) - set(FILES)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
