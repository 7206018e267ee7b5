"""Where the parts are put together: from flags and environment to a context with open doors."""

from __future__ import annotations

import contextlib
import getpass
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_ae5_deploy.common.scratch import scratch_folder
from mlflow_ae5_deploy.common.clock import Clock, SystemClock
from mlflow_ae5_deploy.common.errors import Configuration, Interrupted, Usage

if TYPE_CHECKING:
    from mlflow_ae5_deploy.ae5.options import ConnectionOptions
    from mlflow_ae5_deploy.config.load import LoadedSettings
    from mlflow_ae5_deploy.config.secret_refs import SecretRef
    from mlflow_ae5_deploy.config.settings import PlatformSettings
    from mlflow_ae5_deploy.engine.context import Context, RunOptions
    from mlflow_ae5_deploy.render.console import Reporter

SANDBOX_ACCOUNT = "mlflow-service"
_NO_MOUNT = (
    "This machine does not let the sandbox mount /var/run/secrets/user_credentials. A release that reads its secrets "
    "there only, as upstream's 0.7.2 does, does not see them here and runs on its own defaults (SQLite)."
)
_SANDBOX_IGNORES = ("AE5_", "CF_ACCESS_")


@dataclass(frozen=True)
class SharedOptions:
    """What the shared options say. overrides: dotted setting -> value, from a verb's own options."""

    config: Path | None = None
    profile: str | None = None
    sandbox: bool = False
    json_mode: bool = False
    hostname: str | None = None
    username: str | None = None
    session: str | None = None
    release: str | None = None
    database: str | None = None
    traceback: bool = False
    overrides: Mapping[str, Any] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    @property
    def target(self) -> tuple[tuple[str, ...], ...]:
        """The options that make another verb work on the same installation."""
        options = (
            ("--config", self.config),
            ("--profile", self.profile),
            ("--hostname", self.hostname),
            ("--username", self.username),
            ("--session", self.session),
            ("--release", self.release),
        )
        given = tuple((option, str(value)) for option, value in options if value is not None)
        return ((("--sandbox",),) if self.sandbox else ()) + given


def reporter_for(choices: SharedOptions) -> Reporter:
    from mlflow_ae5_deploy.render.console import Reporter

    return Reporter(json_mode=choices.json_mode, target=choices.target)


def load_settings(choices: SharedOptions) -> LoadedSettings:
    """Settings from file, profile, environment and flags; with --sandbox the platform part is the sandbox's."""
    from mlflow_ae5_deploy.config.load import load

    overrides: dict[str, Any] = {
        "platform.hostname": choices.hostname,
        "account.username": choices.username,
        "platform.session": choices.session,
        "release.source": choices.release,
        **choices.overrides,
    }
    overrides = {key: value for key, value in overrides.items() if value is not None}
    if not choices.sandbox:
        if choices.database is not None:
            raise Usage(
                "--database goes with --sandbox.",
                remedy="On a cluster, set server.backend_store_uri to the database's URI.",
            )
        return load(choices.config, profile=choices.profile, environ=choices.environ, overrides=overrides)
    if choices.hostname is not None:
        raise Usage("--hostname and --sandbox exclude each other.", remedy="Leave one of them out.")
    # Variables meant for a real cluster must not reach the rehearsal.
    environ = {k: v for k, v in choices.environ.items() if not k.startswith(_SANDBOX_IGNORES)}
    environ.pop("REQUESTS_CA_BUNDLE", None)
    found, passwords, mounts_secrets = _sandbox_overrides(choices)
    overrides.update(found)

    def loaded() -> LoadedSettings:
        return load(choices.config, profile=choices.profile, environ=environ, overrides=overrides, sandbox=True)

    account = loaded().settings.account.username or SANDBOX_ACCOUNT
    overrides["account.username"] = account
    if account in passwords:
        overrides["account.password"] = passwords[account]
    complete = loaded()
    if mounts_secrets or complete.settings.release.source == "bundled":
        return complete
    return replace(complete, set_aside=(*complete.set_aside, _NO_MOUNT))


def _sandbox_overrides(choices: SharedOptions) -> tuple[dict[str, Any], dict[str, SecretRef], bool]:
    """Start the sandbox if need be; its address, trust and administrator as settings, its accounts' passwords, and
    whether its commands find secrets where AE5 has them.
    """
    from mlflow_ae5_deploy.cli.sandbox_up import bring_up, credentials
    from mlflow_ae5_deploy.common.redaction import Secret
    from mlflow_ae5_deploy.config.secret_refs import SecretRef

    info, database_uri = bring_up(choices.environ, database=choices.database)
    known = credentials(info)
    found: dict[str, Any] = {
        "platform.hostname": info.hostname,
        "platform.ca_file": info.ca_file,
        "platform.verify_tls": True,
        "platform.client_cert": None,
        "account.impersonate": True,
        "account.create": True,
        "admin.username": known["admin"]["username"],
        "admin.password": SecretRef.holding(Secret(known["admin"]["password"])),
    }
    if database_uri is not None:
        found["server.backend_store_uri"] = SecretRef.holding(Secret(database_uri))
    passwords = {**known.get("reserved", {}), **known["users"]}
    return (
        found,
        {name: SecretRef.holding(Secret(password)) for name, password in passwords.items()},
        info.mounts_secrets,
    )


def prompt() -> Callable[[str], str] | None:
    """A way to ask for a secret without echo; None where nobody could answer."""
    if not (sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    return lambda question: getpass.getpass(f"{question}: ", stream=sys.stderr)


def installation_folder(loaded: LoadedSettings, environ: Mapping[str, str]) -> Path:
    from mlflow_ae5_deploy.config.state_dir import installation_dir, state_root

    settings = loaded.settings
    return installation_dir(
        state_root(settings, environ),
        _required(settings.platform.hostname, "platform.hostname", "--hostname or AE5_HOSTNAME"),
        _required(settings.account.username, "account.username", "--username or AE5_USERNAME"),
        settings.project.name,
    )


@contextlib.contextmanager
def opened(
    choices: SharedOptions,
    reporter: Reporter,
    *,
    verb: str,
    wishes: Callable[[LoadedSettings], RunOptions],
    clock: Clock | None = None,
    for_cron: bool = False,
) -> Iterator[Context]:
    """The context of one run; signs out and removes its scratch folder at the end, however it ends. Raises Interrupted
    where Ctrl-C leaves no server.

    for_cron: what the sandbox sets aside is not told, because cron mails whatever is told, at every run.
    """
    from mlflow_ae5_deploy.ae5.cache import PlatformCache
    from mlflow_ae5_deploy.ae5.sessions import PlatformTarget, Sessions
    from mlflow_ae5_deploy.common import redaction
    from mlflow_ae5_deploy.config.secret_values import SecretResolver
    from mlflow_ae5_deploy.config.state_dir import state_dir, state_root
    from mlflow_ae5_deploy.engine.context import Context
    from mlflow_ae5_deploy.engine.journal import Journal
    from mlflow_ae5_deploy.engine.state import State

    clock = clock or SystemClock()
    loaded = load_settings(choices)
    for warning in loaded.advice if for_cron else loaded.warnings:
        reporter.note(f"warning: {warning}", style="yellow")
    settings, asked = loaded.settings, wishes(loaded)
    hostname = _required(settings.platform.hostname, "platform.hostname", "--hostname or AE5_HOSTNAME")
    folder = installation_folder(loaded, choices.environ)
    for path in (folder, folder.parent, loaded.path, Path.cwd(), sys.executable, sys.argv[0]):
        redaction.show(str(path or ""))
    if not asked.dry:
        state_dir(settings, choices.environ)  # found unwritable now, not after the first effect
    options = _connection(settings.platform, hostname)
    values = SecretResolver(choices.environ, prompt(), added=settings.added_packages)
    target = PlatformTarget(options, settings.platform.session, choices.sandbox, asked.dry)
    access = Sessions(settings, target, values, clock, reporter.waiting)
    context: Context | None = None
    try:
        with contextlib.closing(access), scratch_folder() as scratch:
            context = Context(
                settings=settings,
                options=asked,
                access=access,
                cached=PlatformCache(access),
                memory=State(folder, read_only=asked.dry),
                journal=Journal(folder, clock, verb=verb, read_only=asked.dry),
                values=values,
                clock=clock,
                folder=folder,
                scratch=scratch,
                cache_dir=settings.release.cache_dir or state_root(settings, choices.environ),
                on_wait=reporter.waiting,
                on_progress=reporter.progress,
            )
            yield context
    except KeyboardInterrupt:
        if context is None or not context.outputs.no_server:
            raise
        raise Interrupted(context.outputs.no_server, _resuming(context, choices)) from None


def _resuming(context: Context, choices: SharedOptions) -> str:
    """What goes on where the same command would not."""
    from mlflow_ae5_deploy.common.text import with_target
    from mlflow_ae5_deploy.resources.interrupted_upgrade import interrupted_upgrade

    half = interrupted_upgrade(context)
    return with_target("upgrade --back", choices.target) if half is not None and half.going_back else ""


def _connection(platform: PlatformSettings, hostname: str) -> ConnectionOptions:
    from mlflow_ae5_deploy.ae5.options import ConnectionOptions

    return ConnectionOptions(
        hostname=hostname,
        verify_tls=platform.verify_tls,
        ca_file=platform.ca_file,
        client_cert=platform.client_cert,
        connect_timeout=platform.connect_timeout,
        read_timeout=platform.read_timeout,
        upload_timeout=platform.upload_timeout,
    )


def _required(value: str | None, setting: str, how: str) -> str:
    if not value:
        raise Configuration(
            f"`{setting}` is not set.",
            where=setting,
            remedy=f"Set it in the configuration (`mlflow-ae5-deploy init` writes one) or with {how}; "
            "--sandbox needs neither.",
        )
    return value
