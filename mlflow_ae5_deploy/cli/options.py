"""The options that verbs share, declared once.

A verb's first parameter is one of the classes below, and `command` shows typer its fields as options of their own:
`command(options: WriteOptions, follow: Follow = False)` takes --follow and everything in WriteOptions.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_origin, get_type_hints

import typer

from mlflow_ae5_deploy.cli import completion
from mlflow_ae5_deploy.cli.help import COMMON
from mlflow_ae5_deploy.cli.usage import checked_choice
from mlflow_ae5_deploy.common.errors import Interrupted

if TYPE_CHECKING:
    from mlflow_ae5_deploy.common.clock import SystemClock
    from mlflow_ae5_deploy.common.text import Target
    from mlflow_ae5_deploy.render.console import Reporter

_common = functools.partial(typer.Option, rich_help_panel=COMMON)


def choice(option: str, values: Sequence[str], *more: str, metavar: str, help: str, **settings: Any) -> Any:
    """An option that takes one of these values."""

    def check(value: str | None) -> str | None:
        return None if value is None else checked_choice(value, option, values)

    offer = completion.one_of(values)
    return typer.Option(option, *more, metavar=metavar, help=help, callback=check, autocompletion=offer, **settings)


Config = Annotated[
    Path | None,
    _common(
        "--config",
        "-c",
        metavar="PATH",
        readable=False,  # not checked here: the loader has the words, and the exit code, of a configuration
        help="Default: ./mlflow-ae5-deploy.yaml, if it exists.",
    ),
]
Profile = Annotated[
    str | None,
    _common(
        "--profile",
        "-p",
        metavar="NAME",
        autocompletion=completion.profiles,
        help="Profile of the configuration, such as prod.",
    ),
]
Sandbox = Annotated[bool, _common("--sandbox", help="Use the local sandbox; starts it if needed.")]
Hostname = Annotated[str | None, _common("--hostname", metavar="HOST", help="Override platform.hostname.")]
Username = Annotated[str | None, _common("--username", metavar="NAME", help="Override account.username.")]
SessionKind = Annotated[
    str | None,
    choice(
        "--session",
        completion.SESSIONS,
        metavar="KIND",
        help="auto, ae5-tools or built-in (sandbox only).",
        rich_help_panel=COMMON,
    ),
]
Release = Annotated[
    str | None,
    typer.Option(
        "--release",
        metavar="RELEASE",
        autocompletion=completion.releases,
        help="bundled (the default), latest, a version, a path or an https URL.",
    ),
]
Database = Annotated[
    str | None,
    choice(
        "--database",
        completion.DATABASES,
        metavar="KIND",
        help="The server's database on the sandbox: sqlite or postgresql.",
    ),
]
Yes = Annotated[bool, _common("--yes", "-y", help="Answer yes to all prompts.")]
LockWait = Annotated[
    float,
    _common("--lock-wait", metavar="SECONDS", min=0, help="Wait for another run to end, also on another machine."),
]
BreakLock = Annotated[
    bool, _common("--break-lock", help="Give up an interrupted upgrade or restore of another machine.")
]
Json = Annotated[bool, _common("--json", help="Print one JSON document and nothing else.")]
Verbose = Annotated[
    int,
    _common(
        "--verbose",
        "-v",
        count=True,
        show_default=False,
        help="Log steps, requests and jobs; -vv adds their contents.",
    ),
]
Traceback = Annotated[bool, _common("--traceback", help="Show the Python traceback of an error.")]

# of some verbs only, each a parameter of its own
CreateAccount = Annotated[
    bool, typer.Option("--create-account", help="Create the service account if needed, as an administrator.")
]
ReplaceKeys = Annotated[
    bool,
    typer.Option(
        "--replace-keys",
        help="Replace the stored keys. LLM keys and webhook secrets of users become unreadable.",
    ),
]
Snapshot = Annotated[
    str | None,
    typer.Option(
        "--snapshot",
        metavar="SNAPSHOT",
        autocompletion=completion.snapshots,
        help="An id from `backup list`, or latest (the default).",
    ),
]
Wait = Annotated[
    float,
    typer.Option("--wait", metavar="SECONDS", min=1, help="Wait this long for the job. It continues afterwards."),
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

    @functools.cached_property
    def clock(self) -> SystemClock:
        from mlflow_ae5_deploy.common.clock import SystemClock

        return SystemClock()


TARGET_NAMES = ("config", "profile", "hostname", "username", "session", "release")
"""The options with a value that select an installation."""


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
        given = [(f"--{name}", str(getattr(self, name))) for name in TARGET_NAMES if getattr(self, name) is not None]
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
    break_lock: BreakLock = False


@dataclass(frozen=True)
class ReleaseWriteOptions(ReleaseOptions, WriteOptions):
    """Of a verb that changes an installation and needs its release."""


def examples(commands: dict[str, str]) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Of a verb's page. commands: command line without the program -> its purpose."""

    def marked(function: Callable[..., int]) -> Callable[..., int]:
        function.examples = commands  # type: ignore[attr-defined]
        return function

    return marked


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
            try:
                return function(options, **values)
            except (KeyboardInterrupt, Interrupted):
                options.reporter.interrupted()
                raise

    parameters = [parameter.replace(annotation=hints[parameter.name]) for parameter in own]
    wrapper.__signature__ = inspect.Signature([*parameters, *shared])  # type: ignore[attr-defined]
    wrapper.__annotations__ = {}
    return wrapper


@functools.cache
def _shared(kind: type[CommonOptions]) -> list[inspect.Parameter]:
    """In the order of `--help`: options of few verbs before those of all."""
    hints = get_type_hints(kind, include_extras=True)
    names = dict.fromkeys(name for base in kind.__mro__ for name in vars(base).get("__annotations__", {}))
    return [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=getattr(kind, name), annotation=hints[name])
        for name in names
        if get_origin(hints[name]) is Annotated
    ]
