"""Shared by all verbs: load settings, open platform and state, lock, ask for consent."""

from __future__ import annotations

import contextlib
import getpass
import os
import sys
import termios
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mlflow_ae5_deploy.cli.installation import SANDBOX_ACCOUNT, installation_folder, required, without_cluster
from mlflow_ae5_deploy.common.errors import AGAIN, DeployError, Interrupted, Usage
from mlflow_ae5_deploy.common.variable_names import TOKEN

if TYPE_CHECKING:
    from mlflow_ae5_deploy.ae5.options import ConnectionOptions
    from mlflow_ae5_deploy.cli.options import CommonOptions, TargetOptions, WriteOptions
    from mlflow_ae5_deploy.common.clock import SystemClock
    from mlflow_ae5_deploy.common.redaction import Secret
    from mlflow_ae5_deploy.config.load import LoadedSettings
    from mlflow_ae5_deploy.config.settings import PlatformSettings
    from mlflow_ae5_deploy.engine.change import Change
    from mlflow_ae5_deploy.engine.context import Context, RunOptions
    from mlflow_ae5_deploy.engine.lock import InstallationLock

ANSWERS = {"y": True, "yes": True, "n": False, "no": False, "": False}
_NO_MOUNT = (
    "This machine does not let the sandbox mount /var/run/secrets/user_credentials. A release that reads its secrets "
    "there only, as upstream's 0.7.2 does, does not see them here and runs on its own defaults (SQLite)."
)


def load_settings(
    options: TargetOptions, settings: Mapping[str, Any] | None = None, *, start: bool = True
) -> LoadedSettings:
    """Settings from file, profile, environment and options; with --sandbox the platform part is the sandbox's.

    settings: dotted setting -> value, from a verb's own options. start: start the sandbox if it is not up; else there
    are no passwords, and no host where it has never run.
    """
    from mlflow_ae5_deploy.config.load import load

    overrides: dict[str, Any] = {
        "platform.hostname": options.hostname,
        "account.username": options.username,
        "platform.session": options.session,
        "release.source": options.release,
        **(settings or {}),
    }
    overrides = {key: value for key, value in overrides.items() if value is not None}
    if not options.sandbox:
        if options.database is not None:
            raise Usage(
                "--database requires --sandbox.",
                remedy="On a cluster, set server.backend_store_uri to the database's URI.",
            )
        return load(options.config, profile=options.profile, environ=os.environ, overrides=overrides)
    if options.hostname is not None:
        raise Usage("--hostname and --sandbox exclude each other.", remedy="Leave one out.")
    return _sandbox_settings(options, overrides, start=start)


def _sandbox_settings(options: TargetOptions, overrides: dict[str, Any], *, start: bool) -> LoadedSettings:
    """Settings of an installation on the sandbox."""
    from mlflow_ae5_deploy.cli.sandbox_up import overrides_without_start, sandbox_overrides
    from mlflow_ae5_deploy.config.load import load

    environ = without_cluster(os.environ)
    sandbox = sandbox_overrides(options.reporter, database=options.database) if start else overrides_without_start()
    account = options.username or SANDBOX_ACCOUNT
    overrides = {**overrides, **sandbox.settings, "account.username": account}
    if account in sandbox.passwords:
        overrides["account.password"] = sandbox.passwords[account]
    complete = load(options.config, profile=options.profile, environ=environ, overrides=overrides, sandbox=True)
    if options.username is None:
        complete = _noting_other_accounts(complete)
    if sandbox.mounts_secrets or complete.settings.release.source == "bundled":
        return complete
    return replace(complete, ignored_on_sandbox=(*complete.ignored_on_sandbox, _NO_MOUNT))


def _noting_other_accounts(loaded: LoadedSettings) -> LoadedSettings:
    """With a warning where this sandbox has installations, but of other accounts only."""
    from mlflow_ae5_deploy.config.state_dir import JOURNAL, accounts_on, state_root

    account, hostname = loaded.settings.account.username, loaded.settings.platform.hostname
    if not hostname or (installation_folder(loaded) / JOURNAL).is_file():
        return loaded
    found = accounts_on(state_root(loaded.settings, os.environ), hostname)
    if not found or account in found:
        return loaded
    note = (
        f"This machine knows no installation of {account} (the default) on this sandbox, only of {', '.join(found)}. "
        f"For that one, add --username {found[0]}."
    )
    return replace(loaded, ignored_on_sandbox=(*loaded.ignored_on_sandbox, note))


def prompt(clock: SystemClock) -> Callable[[str], str] | None:
    """Ask for a secret without echo; None without a terminal."""
    if not (sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()):
        return None

    def ask(question: str) -> str:
        with clock.asking():
            return getpass.getpass(f"{question}: ", stream=sys.stderr)

    return ask


@contextlib.contextmanager
def opened(
    options: TargetOptions,
    verb: str,
    run: RunOptions,
    *,
    create_account: bool | None = None,
    settings: Mapping[str, Any] | None = None,
    for_cron: bool = False,
) -> Iterator[Context]:
    """Open platform, state and journal for one run; sign out at the end, however it ends.

    Raises Interrupted for Ctrl-C. create_account: whether --create-account was given; None: the
    account is never created, whatever is configured. settings: see load_settings. for_cron: print no warning about what
    the sandbox ignores, because cron mails it at every run.
    """
    from mlflow_ae5_deploy.common.files import scratch_folder

    loaded = load_settings(options, settings)
    for warning in loaded.advice if for_cron else loaded.warnings:
        options.reporter.warning(warning)
    run = replace(run, interactive=can_ask(options))
    if create_account is not None:
        run = replace(run, create_account=create_account or loaded.settings.account.create)
    context: Context | None = None
    try:
        with contextlib.ExitStack() as stack:
            context = _context(options, verb, run, loaded, stack.enter_context(scratch_folder()))
            stack.enter_context(contextlib.closing(context.access))
            yield context
    except DeployError as error:
        if context is not None and context.outputs.warnings:
            error.document["warnings"] = list(context.outputs.warnings)
        raise
    except KeyboardInterrupt:
        if context is None:
            raise
        raise Interrupted(_state_left(context, verb), [] if run.dry else _ways_out(context, verb)) from None


def _context(options: TargetOptions, verb: str, run: RunOptions, loaded: LoadedSettings, scratch: Path) -> Context:
    """Nothing is sent yet: sessions are opened when they are first used."""
    from mlflow_ae5_deploy.ae5.access import Access
    from mlflow_ae5_deploy.ae5.cache import PlatformCache
    from mlflow_ae5_deploy.ae5.connect import PlatformTarget
    from mlflow_ae5_deploy.common import redaction
    from mlflow_ae5_deploy.config.secret_refs import SecretResolver
    from mlflow_ae5_deploy.config.state_dir import private_dir, state_root
    from mlflow_ae5_deploy.engine.context import Context, Folders
    from mlflow_ae5_deploy.engine.journal import Journal
    from mlflow_ae5_deploy.engine.state import SavedState

    settings, reporter, clock = loaded.settings, options.reporter, options.clock
    folder = installation_folder(loaded)
    for path in (folder, folder.parent, loaded.path, Path.cwd(), sys.executable, sys.argv[0]):
        redaction.exempt(str(path or ""))
    if not run.dry:
        private_dir(state_root(settings, os.environ))  # fail now if it cannot be written, not after the first effect
    values = SecretResolver(os.environ, prompt(clock), added=settings.added_packages)
    target = PlatformTarget(_connection(settings.platform), settings.platform.session, options.sandbox, run.dry)
    access = Access(settings, target, values, clock, reporter.waiting)
    return Context(
        settings=settings,
        options=run,
        access=access,
        cached=PlatformCache(access),
        state=SavedState.load(folder, read_only=run.dry),
        journal=Journal(folder, clock, verb=verb, read_only=run.dry),
        values=values,
        clock=clock,
        folders=Folders(folder, scratch, settings.release.cache_dir or state_root(settings, os.environ)),
        progress=reporter,
    )


@contextlib.contextmanager
def reading(
    options: TargetOptions, verb: str, *, create_account: bool | None = None, start: bool = True
) -> Iterator[Context]:
    """Open for reading only: the session refuses every write. start: start the sandbox if it is not up, else refuse."""
    from mlflow_ae5_deploy.cli.sandbox_up import require_running
    from mlflow_ae5_deploy.engine.context import RunOptions

    if options.sandbox and not start:
        require_running()
    with opened(options, verb, RunOptions(dry=True), create_account=create_account) as context:
        yield context


@contextlib.contextmanager
def writing(
    options: WriteOptions, verb: str, *, create_account: bool | None = None, settings: Mapping[str, Any] | None = None
) -> Iterator[Context]:
    """Open for changes: with the installation's lock, and begin and end of the run in the journal."""
    from mlflow_ae5_deploy.engine.context import RunOptions
    from mlflow_ae5_deploy.engine.executor import recorded

    run = RunOptions(consent=consent(options))
    with (
        opened(options, verb, run, create_account=create_account, settings=settings) as context,
        locked(options, verb, context),
        recorded(context),
    ):
        yield context


@contextlib.contextmanager
def locked(
    options: WriteOptions, verb: str, context: Context, *, break_lock: bool = False
) -> Iterator[InstallationLock]:
    """Hold the installation's lock, on this machine and, from the first request on, on all.

    The state is read again, because another run may have written it meanwhile. break_lock: also without --break-lock.
    """
    from mlflow_ae5_deploy.common.clock import Deadline
    from mlflow_ae5_deploy.engine.lease_keeper import leased
    from mlflow_ae5_deploy.engine.lock import InstallationLock

    broken, deadline = break_lock or options.break_lock, Deadline(context.clock, options.lock_wait)
    with InstallationLock(context.folders.state, context.clock, verb=verb).held(options.lock_wait) as lock:
        context.state.reload()
        with leased(context, lock, verb, wait_seconds=deadline.remaining(), break_lock=broken):
            yield lock


def given_token(options: TargetOptions) -> Secret | None:
    """The token in the environment; none with --sandbox, because it belongs to another platform."""
    from mlflow_ae5_deploy.common.redaction import Secret

    token = os.environ.get(TOKEN)
    return Secret(token) if token and not options.sandbox else None


def can_ask(options: CommonOptions) -> bool:
    return not options.json and sys.stdin is not None and sys.stdin.isatty()


def confirmed(options: CommonOptions, question: str) -> bool:
    """Ask until the answer is y, yes, n, no or nothing, which is no. Without a terminal the answer is no.

    Input from before the question is discarded: it does not answer what nobody has seen.
    """
    if not can_ask(options):
        return False
    shown = f"{question} [y/N]"
    try:
        with options.clock.asking():
            with contextlib.suppress(OSError, termios.error):
                termios.tcflush(sys.stdin, termios.TCIFLUSH)
            while (
                answer := typer.prompt(shown, default="", show_default=False, err=True).strip().lower()
            ) not in ANSWERS:
                options.reporter.note("Answer y (yes) or n (no); Enter means no.")
    except typer.Abort:  # the journal records only this as an interruption
        typer.echo(err=True)  # the question's line has not ended
        raise KeyboardInterrupt from None
    return ANSWERS[answer]


def consent(
    options: WriteOptions,
    agreed_to: Collection[type[Change]] = (),
    *,
    shown: bool = False,
    question: str = "",
    before: Callable[[], None] = lambda: None,
) -> Callable[[Sequence[Change]], bool]:
    """Show changes with their consequences, if not `shown` before, then ask; once for the same ones in a run.

    agreed_to: changes that an option of their own confirms. question: empty for that of the changes themselves.
    before: called first.
    """

    confirmed_before = set[object]()

    def ask(changes: Sequence[Change]) -> bool:
        from mlflow_ae5_deploy.render import changes as text

        pending = {(change.identity, change.consequences) for change in changes if change.needs_consent}
        if pending <= confirmed_before:
            return True
        before()
        if not shown:
            text.show_consequences(options.reporter, changes)
        by_option = options.yes or all(type(change) in agreed_to for change in changes if change.needs_consent)
        agreed = by_option or confirmed(options, question or text.question(changes))
        if agreed:
            confirmed_before.update(pending)
        return agreed

    return ask


def _state_left(context: Context, verb: str) -> str:
    """By an interrupted run."""
    from mlflow_ae5_deploy.common.text import counted
    from mlflow_ae5_deploy.resources.interrupted import interrupted_upgrade, started_restore_words

    recorded, outputs = context.journal.effects, context.outputs
    if recorded:  # also files on this machine, for which there is no request
        changes = f"{counted(recorded, 'changes')} {'is' if recorded == 1 else 'are'} recorded: see `history`."
    elif not context.access.costs()[1]:
        changes = "Nothing was changed."
    else:
        changes = "The last request may have taken effect."
    stopped = f"The job for {outputs.stopped_job} was stopped." if outputs.stopped_job else ""
    data, upgrade = "", interrupted_upgrade(context.state)
    if verb.startswith("upgrade") and upgrade is not None:
        data = upgrade.data
    elif context.options.restore is not None and context.state.started_restore is not None:
        data = started_restore_words(context.state.started_restore)
    return " ".join(text for text in (outputs.no_server, stopped, data, changes) if text)


def _ways_out(context: Context, verb: str) -> list[tuple[str, str]]:
    """Of an interrupted run, see Interrupted."""
    from mlflow_ae5_deploy.resources.interrupted import interrupted_upgrade

    upgrade, restore = interrupted_upgrade(context.state), context.state.started_restore
    again = ("", "to finish")
    if upgrade is not None and upgrade.rolling_back:
        return [("upgrade --roll-back", "to finish")]
    if upgrade is not None and verb.startswith("upgrade"):
        return [again, ("upgrade --roll-back", "to return to the previous release")]
    if restore is None or context.options.restore is None:
        return [AGAIN]
    if restore.was_undo:
        return [again]
    if restore.message:
        return [again, ("restore --undo", "to bring back the data from before it")]
    return [again, ("restore --dry-run", "to see the state of the data")]


def _connection(platform: PlatformSettings) -> ConnectionOptions:
    from mlflow_ae5_deploy.ae5.options import ConnectionOptions

    return ConnectionOptions(
        hostname=required(platform.hostname, "platform.hostname", "--hostname or AE5_HOSTNAME"),
        verify_tls=platform.verify_tls,
        ca_file=platform.ca_file,
        client_cert=platform.client_cert,
        connect_timeout=platform.connect_timeout,
        read_timeout=platform.read_timeout,
        upload_timeout=platform.upload_timeout,
    )
