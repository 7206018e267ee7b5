"""The variables of a client, for a shell, a dotenv file, Python, a notebook or conda.

Pure text. A token is among the values only where somebody asked for it, so nothing here passes through `scrub`.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping

from mlflow_ae5_deploy.common.errors import Usage
from mlflow_ae5_deploy.common.variable_names import TOKEN

SECRET_FILE = f"/var/run/secrets/user_credentials/{TOKEN}"
_HOW = f"{TOKEN}: add --show-token to issue and print one"
PIPED = "... env --format conda --show-token"  # stands for the whole command
_PIPE = f"# This text contains a secret: pipe it instead of pasting it: {PIPED} | sh"
_CONDA_FILE = "mlflow-tracking-token.sh"
_END = "END_OF_FILE"
_CONDA_FILES = (
    ': "${CONDA_PREFIX:?activate the conda environment first}"',
    "umask 077  # only you can read the files, which contain the token in clear text",
    'mkdir -p "$CONDA_PREFIX/etc/conda/activate.d" "$CONDA_PREFIX/etc/conda/deactivate.d"',
    f'rm -f "$CONDA_PREFIX/etc/conda/activate.d/{_CONDA_FILE}"',
    f'echo "unset {TOKEN}" >"$CONDA_PREFIX/etc/conda/deactivate.d/{_CONDA_FILE}"',
)
# Without quotes, because `docker run --env-file` takes quotes for a part of the value.
_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,=~-]*")


def shell(environment: Mapping[str, str]) -> str:
    """For `eval "$(...)"` in sh, bash and zsh."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    return _lines(lines if TOKEN in environment else [*lines, f"# {_HOW}"])


def dotenv(environment: Mapping[str, str]) -> str:
    """For python-dotenv and docker compose."""
    lines = [f"{name}={_dotenv_value(name, value)}" for name, value in environment.items()]
    return _lines(lines if TOKEN in environment else [*lines, f"# {_HOW}"])


def python(environment: Mapping[str, str]) -> str:
    """For a script, before it imports mlflow."""
    lines = ["import os", "", *_update(environment)]
    return _lines(lines if TOKEN in environment else [*lines, f"# {_HOW}"])


def notebook(environment: Mapping[str, str]) -> str:
    """One cell. Without a token in it, it takes that of the account's secrets (inside AE5), or asks for one."""
    if TOKEN in environment:
        warning = "# This cell holds a secret: clear it before you save or share the notebook."
        return _lines([warning, "import os", "", *_update(environment)])
    return _lines(
        [
            "import os",
            "from getpass import getpass",
            "from pathlib import Path",
            "",
            *_update(environment),
            f"_stored = Path({SECRET_FILE!r})  # a secret of the account, where this runs inside AE5",
            "if _stored.is_file():",
            f"    os.environ[{TOKEN!r}] = _stored.read_text().strip()",
            f"elif not os.environ.get({TOKEN!r}):",
            f"    os.environ[{TOKEN!r}] = getpass({TOKEN + ': '!r})",
        ]
    )


def conda(environment: Mapping[str, str]) -> str:
    """Variables of the conda environment that is active; they are there after the next `conda activate`.

    Not the token: what is an argument of a command, every user of the machine can see while it runs. It goes into a
    file that conda reads, and on its way there through a pipe.
    """
    plain = {name: value for name, value in environment.items() if name != TOKEN}
    lines = [f"conda env config vars set {shlex.quote(f'{name}={value}')}" for name, value in plain.items()]
    if TOKEN not in environment:
        return _lines([*lines, f"# {_HOW}"])
    return _lines([_PIPE, *lines, *_CONDA_FILES, *_here(f"export {TOKEN}={shlex.quote(environment[TOKEN])}")])


def _here(line: str) -> list[str]:
    return [f"""cat >"$CONDA_PREFIX/etc/conda/activate.d/{_CONDA_FILE}" <<'{_END}'""", line, _END]


def as_json(environment: Mapping[str, str]) -> str:
    document = {"schema": 1, "verb": "env", "outcome": "done", "environment": dict(environment)}
    return _lines([json.dumps(document, indent=2)])


FORMATS: dict[str, Callable[[Mapping[str, str]], str]] = {
    "shell": shell,
    "dotenv": dotenv,
    "python": python,
    "notebook": notebook,
    "conda": conda,
    "json": as_json,
}


def _update(environment: Mapping[str, str]) -> list[str]:
    return ["os.environ.update({", *(f"    {name!r}: {value!r}," for name, value in environment.items()), "})"]


def _dotenv_value(name: str, value: str) -> str:
    """Bare where possible, else in single quotes, in which only quote and backslash are special.

    python-dotenv replaces `${...}` even there, so that cannot be written at all.
    """
    if _PLAIN.fullmatch(value):
        return value
    if "${" in value or "\n" in value or "\r" in value:
        raise Usage(
            f"The value of {name} contains `${{` or a line break, which a dotenv file cannot hold.",
            where="--format dotenv",
            remedy="Use another format, such as python.",
        )
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _lines(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"
