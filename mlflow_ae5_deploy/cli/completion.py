"""Values that the shell offers, and `--install-completion` for another shell than the current one."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from mlflow_ae5_deploy.cli.usage import checked_choice
from mlflow_ae5_deploy.common.errors import DeployError

# Of those that typer supports; PowerShell is rare on Linux.
SHELLS = ("bash", "zsh", "fish")
SESSIONS = ("auto", "ae5-tools", "built-in")
DATABASES = ("sqlite", "postgresql")
MONITORING = ("nagios", "prometheus")  # formats of status
FORMATS = ("shell", "dotenv", "python", "notebook", "conda", "json")
COMPLETION_VARIABLE = "_MLFLOW_AE5_DEPLOY_COMPLETE"  # set by the shell, as typer names it
PARTS = ("app", "events", "proxy")

_WITH_EQUALS = re.compile(r" --[a-z0-9-]+=\S*\Z")
_PLAIN = re.compile(r"[A-Za-z0-9_./+-]+")
Offer = Callable[[str], list[str]]


def one_of(values: Iterable[str]) -> Offer:
    """Offer the values that a shell takes as they are: zsh evaluates what it is offered, and files name some."""

    def offer(incomplete: str) -> list[str]:
        return [value for value in values if value.startswith(incomplete) and _PLAIN.fullmatch(value)]

    return offer


def profiles(context: typer.Context, incomplete: str) -> list[str]:
    """Those of the configuration that the line names, or that would be taken."""
    found = _configuration(context).get("profiles")
    return one_of(str(name) for name in found)(incomplete) if isinstance(found, dict) else []


def releases(context: typer.Context, incomplete: str) -> list[str]:
    """The words, and the versions of a mirror that is a folder. A path is completed by the shell, as none of these."""
    release = _configuration(context).get("release")
    mirror = release.get("mirror") if isinstance(release, dict) else None
    versions: list[str] = []
    if isinstance(mirror, str) and "://" not in mirror:
        from mlflow_ae5_deploy.release.versions import in_folder

        with contextlib.suppress(DeployError):
            versions = in_folder(_file(context).parent / Path(mirror).expanduser())
    return one_of(("bundled", "latest", *reversed(versions)))(incomplete)


def snapshots(context: typer.Context, incomplete: str) -> list[str]:
    """latest, and those made from this machine, the newest first. The repository itself is not queried."""
    from mlflow_ae5_deploy.config.state_dir import JOURNAL
    from mlflow_ae5_deploy.engine.journal import backwards

    made: list[str] = []
    with contextlib.suppress(DeployError, OSError):
        entries = backwards(_installation(context) / JOURNAL)
        made = [one.name or "" for one in entries if (one.event, one.action) == ("effect", "back up")]
    return one_of(dict.fromkeys(("latest", *made)))(incomplete)


def _installation(context: typer.Context) -> Path:
    """The state folder of the installation that the line names. Starts no sandbox."""
    from mlflow_ae5_deploy.cli.installation import SANDBOX_ACCOUNT, installation_folder, without_cluster
    from mlflow_ae5_deploy.cli.sandbox_up import sandbox_folder, sandbox_lifecycle
    from mlflow_ae5_deploy.config.load import load

    given, sandbox = context.params, bool(context.params.get("sandbox"))
    overrides = {"platform.hostname": given.get("hostname"), "account.username": given.get("username")}
    environ: dict[str, str] = dict(os.environ)
    if sandbox:
        environ = without_cluster(environ)
        overrides["platform.hostname"] = sandbox_lifecycle().hostname(sandbox_folder())
        overrides["account.username"] = given.get("username") or SANDBOX_ACCOUNT
    path = Path(given["config"]) if given.get("config") else None
    return installation_folder(
        load(path, profile=given.get("profile"), environ=environ, overrides=overrides, sandbox=sandbox)
    )


def _configuration(context: typer.Context) -> dict[Any, Any]:
    """As written in the file; empty if it is missing or cannot be read, because completion shows no errors."""
    from mlflow_ae5_deploy.config.yaml_file import read_yaml

    with contextlib.suppress(DeployError, OSError):
        return read_yaml(_file(context)).values
    return {}


def _file(context: typer.Context) -> Path:
    from mlflow_ae5_deploy.config.environment import CONFIG_VARIABLE, DEFAULT_FILE

    path = context.params.get("config") or os.environ.get(CONFIG_VARIABLE) or DEFAULT_FILE
    return Path(path).absolute()


def complete_behind_equals(environ: Mapping[str, str]) -> None:
    """Have zsh complete only what follows `--option=`. It evaluates what the program prints."""
    line = environ.get("_TYPER_COMPLETE_ARGS", "")
    if environ.get(COMPLETION_VARIABLE) == "complete_zsh" and _WITH_EQUALS.search(line):
        typer.echo("compset -P '*=';")


def for_shell(arguments: Sequence[str], program: str) -> bool:
    """Carry out `--install-completion SHELL` and `--show-completion SHELL`; whether it was one of these.

    Typer knows them without a shell only, and takes the name of one for a verb. It detects the shell that runs, which
    need not be the one that the reader types in.
    """
    option, separator, shell = arguments[0].partition("=") if arguments else ("", "", "")
    if not separator:
        shell = arguments[1] if len(arguments) == 2 else ""
    if option not in ("--install-completion", "--show-completion") or not shell or shell.startswith("-"):
        return False
    checked_choice(shell, option, SHELLS)
    # Not declared as public, but the same in every typer that pyproject.toml allows.
    from typer.completion import get_completion_script, install  # type: ignore[attr-defined]

    if option == "--show-completion":
        typer.echo(get_completion_script(prog_name=program, complete_var=COMPLETION_VARIABLE, shell=shell))
        return True
    _, path = install(shell=shell, prog_name=program, complete_var=COMPLETION_VARIABLE)
    typer.echo(f"Installed the completion for {shell} in {path}. Start a new shell to use it.")
    return True
