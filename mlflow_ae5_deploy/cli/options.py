"""The options that verbs share, declared once.

A verb's first parameter is one of the classes below, and `command` shows typer its fields as options of their own:
`command(options: WriteOptions, follow: Follow = False)` takes --follow and everything in WriteOptions.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_origin, get_type_hints

import typer

from mlflow_ae5_deploy.cli import completion

if TYPE_CHECKING:
    from mlflow_ae5_deploy.common.text import Target
    from mlflow_ae5_deploy.render.console import Reporter

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        readable=False,  # not checked here: the loader has the words, and the exit code, of a configuration
        help="Configuration file. Default: mlflow-ae5-deploy.yaml here, if there is one.",
    ),
]
Profile = Annotated[
    str | None,
    typer.Option(
        "--profile", "-p", autocompletion=completion.profiles, help="Profile of the configuration, such as dev or prod."
    ),
]
Sandbox = Annotated[
    bool, typer.Option("--sandbox", help="Use the local sandbox instead of a cluster; started if it is not up.")
]
Hostname = Annotated[str | None, typer.Option("--hostname", help="Platform host, overriding the configuration.")]
Username = Annotated[str | None, typer.Option("--username", help="Service account, overriding the configuration.")]
SessionKind = Annotated[
    str | None,
    typer.Option(
        "--session",
        autocompletion=completion.one_of(completion.SESSIONS),
        help="Session provider: auto, ae5-tools, or built-in (sandbox only).",
    ),
]
Release = Annotated[
    str | None,
    typer.Option(
        "--release",
        autocompletion=completion.releases,
        help="bundled, latest, X.Y.Z, an archive's path or an https URL. Default: bundled.",
    ),
]
Database = Annotated[
    str | None,
    typer.Option(
        "--database",
        autocompletion=completion.one_of(completion.DATABASES),
        help="With --sandbox: the server's database, sqlite or postgresql.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Answer yes to all prompts.")]
LockWait = Annotated[
    float,
    typer.Option(
        "--lock-wait",
        min=0,
        help="Seconds to wait for another run on this machine to end. Runs on other machines are not seen.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]
Verbose = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        count=True,
        show_default=False,
        help="Log each step and request to stderr; -vv adds what requests send and receive.",
    ),
]
Traceback = Annotated[bool, typer.Option("--traceback", help="Show the Python traceback of an error.")]

# of some verbs only, each a parameter of its own
CreateAccount = Annotated[
    bool, typer.Option("--create-account", help="Create the service account if it does not exist (admin credentials).")
]
ReplaceKeys = Annotated[
    bool,
    typer.Option(
        "--replace-keys",
        help="Replace the stored keys. LLM keys and webhook secrets entered before become unreadable.",
    ),
]
Snapshot = Annotated[
    str | None, typer.Option("--snapshot", help="Which one: an id as `backup list` shows it, or latest (the default).")
]
Schedule = Annotated[
    str | None,
    typer.Option("--schedule", help="Schedule it as a job: minute hour day month weekday, in UTC; '30 2 * * *'."),
]
RemoveSchedule = Annotated[bool, typer.Option("--remove-schedule", help="Remove that job and the records of its runs.")]
Wait = Annotated[
    float, typer.Option("--wait", min=1, help="Seconds to wait for the job. It continues on the platform afterwards.")
]


@dataclass(frozen=True)
class CommonOptions:
    """Of every verb."""

    json: Json = False
    verbose: Verbose = 0
    traceback: Traceback = False

    @property
    def target(self) -> Target:
        """The options that make another verb work on the same installation."""
        return ()

    @functools.cached_property
    def reporter(self) -> Reporter:
        from mlflow_ae5_deploy.render.console import Reporter

        return Reporter(json_mode=self.json, verbose=self.verbose > 0, target=self.target)


@dataclass(frozen=True)
class TargetOptions(CommonOptions):
    """Which installation. A field without an option, such as `release` here, is not on the command line."""

    config: Config = None
    profile: Profile = None
    sandbox: Sandbox = False
    hostname: Hostname = None
    username: Username = None
    session: SessionKind = None
    release: str | None = None
    database: str | None = None

    @property
    def target(self) -> Target:
        names = ("config", "profile", "hostname", "username", "session", "release")
        given = [(f"--{name}", str(getattr(self, name))) for name in names if getattr(self, name) is not None]
        return ((("--sandbox",),) if self.sandbox else ()) + tuple(given)


@dataclass(frozen=True)
class ReleaseOptions(TargetOptions):
    """And with which release."""

    release: Release = None
    database: Database = None


@dataclass(frozen=True)
class WriteOptions(TargetOptions):
    """Of a verb that changes an installation."""

    yes: Yes = False
    lock_wait: LockWait = 0.0


@dataclass(frozen=True)
class ReleaseWriteOptions(ReleaseOptions, WriteOptions):
    """Of a verb that changes an installation and needs its release."""


def command(function: Callable[..., int]) -> Callable[..., int]:
    """`function` as typer is to see it: with the fields of its first parameter, a class of options, as parameters."""
    first, *own = inspect.signature(function).parameters.values()
    hints = get_type_hints(function, include_extras=True)
    kind = hints[first.name]
    shared = _shared(kind)

    @functools.wraps(function)
    def wrapper(**values: Any) -> int:
        from mlflow_ae5_deploy.render.verbose_log import logged

        options = kind(**{parameter.name: values.pop(parameter.name) for parameter in shared})
        with contextlib.closing(options.reporter), logged(options.reporter, options.verbose):
            return function(options, **values)

    parameters = [parameter.replace(annotation=hints[parameter.name]) for parameter in own]
    wrapper.__signature__ = inspect.Signature([*parameters, *shared])  # type: ignore[attr-defined]
    wrapper.__annotations__ = {}
    return wrapper


@functools.cache
def _shared(kind: type[CommonOptions]) -> list[inspect.Parameter]:
    """In the order of `--help`: what is special to a verb comes before what every verb has."""
    hints = get_type_hints(kind, include_extras=True)
    names = dict.fromkeys(name for base in kind.__mro__ for name in vars(base).get("__annotations__", {}))
    return [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=getattr(kind, name), annotation=hints[name])
        for name in names
        if get_origin(hints[name]) is Annotated
    ]
