"""schedule-gc: its options, and what they ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlflow_ae5_deploy.common.errors import Configuration, Usage

if TYPE_CHECKING:
    from mlflow_ae5_deploy.common.redaction import Secret
    from mlflow_ae5_deploy.config.secret_refs import SecretRef
    from mlflow_ae5_deploy.config.secret_values import SecretResolver

DATABASE, TTL, DRY_RUN = "MLFLOW_BACKEND_STORE_URI", "MLFLOW_TRACKING_GC_TTL", "MLFLOW_TRACKING_GC_DRY_RUN"
_REFERENCES = ("env:", "file:")

Cron = Annotated[
    str | None, typer.Option("--cron", help="When it runs: minute hour day month weekday, in UTC; '30 3 * * *'.")
]
Ttl = Annotated[
    str | None, typer.Option("--ttl", help="How long deleted things are kept, such as 30d0h0m0s; for this job only.")
]
BackendStoreUri = Annotated[
    str | None,
    typer.Option(
        "--backend-store-uri",
        help="Another database for this job than the server's. With a password in it: env:NAME or file:PATH.",
    ),
]
Variable = Annotated[
    list[str] | None, typer.Option("--variable", help="NAME=VALUE, a variable of the job; may be repeated.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="The job lists what it would remove. With --run-now: one such run, no more.")
]
RunNow = Annotated[bool, typer.Option("--run-now", help="Run it now, show its log, end with its verdict.")]
Pause = Annotated[bool, typer.Option("--pause", help="Let it rest; a later install leaves it resting.")]
Resume = Annotated[bool, typer.Option("--resume", help="Let a paused job run again.")]
Remove = Annotated[bool, typer.Option("--remove", help="Remove the job and the records of its runs.")]
KeepRuns = Annotated[int, typer.Option("--keep-runs", min=0, help="Records of old runs to keep, the newest ones.")]
Wait = Annotated[
    float, typer.Option("--wait", min=1, help="Seconds a run may take: one in the way, or the one of --run-now.")
]


@dataclass(frozen=True)
class GcOptions:
    """What the options say. verb: set | run | rehearse | pause | resume | remove.

    overrides: settings. database: a reference to the database URI, which is no setting because it hides a password.
    """

    verb: str
    overrides: Mapping[str, Any]
    database: SecretRef | None
    changes: bool
    keep_runs: int
    wait: float


def read(
    *,
    cron: str | None,
    ttl: str | None,
    uri: str | None,
    variables: Sequence[str],
    dry_run: bool,
    switches: Mapping[str, bool],
    keep_runs: int,
    wait: float,
) -> GcOptions:
    """Raises Usage for what does not go together. switches: pause, resume, remove, run-now."""
    _check(cron, ttl)
    plain, database = _variables(ttl, uri, variables)
    chosen = [name for name, given in switches.items() if given]
    if len(chosen) > 1:
        raise Usage(f"{' and '.join('--' + name for name in chosen)} exclude each other.", remedy="Leave one out.")
    verb = chosen[0] if chosen else "set"
    changes = bool(cron is not None or plain or database)
    if verb in ("pause", "resume", "remove") and (changes or dry_run):
        raise Usage(f"--{verb} goes with none of the options that say what the job is like.", remedy="Leave them out.")
    if verb == "run-now" and dry_run:
        if cron is not None:
            raise Usage("--cron has no meaning for one dry run.", remedy="Leave --cron out, or --run-now.")
        verb = "rehearse"
    elif dry_run:
        plain[DRY_RUN] = "true"
        changes = True
    overrides: dict[str, Any] = {"gc.schedule": cron} if cron is not None else {}
    if plain:
        overrides["gc.variables"] = plain
    return GcOptions("run" if verb == "run-now" else verb, overrides, database, changes, keep_runs, wait)


def _check(cron: str | None, ttl: str | None) -> None:
    """Here, where it is known which option is wrong. Raises Configuration."""
    from mlflow_ae5_deploy.common.cron import parse_cron
    from mlflow_ae5_deploy.common.durations import parse_ttl

    if ttl is not None:
        parse_ttl(ttl, where="--ttl")
    if cron is not None:
        try:
            parse_cron(cron)
        except Configuration as error:
            error.where = "--cron"
            raise


def _variables(ttl: str | None, uri: str | None, pairs: Sequence[str]) -> tuple[dict[str, str], SecretRef | None]:
    given: list[tuple[str, str]] = []
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise Usage("--variable takes NAME=VALUE.", where="--variable")
        given.append((name, value))
    given += [(name, value) for name, value in ((TTL, ttl), (DATABASE, uri)) if value is not None]
    twice = sorted({name for name, _ in given if [n for n, _ in given].count(name) > 1})
    if twice:
        raise Usage(f"{', '.join(twice)} is given more than once.", where="--variable")
    plain = dict(given)
    database: SecretRef | None = None
    if (text := plain.get(DATABASE, "")).startswith(_REFERENCES):
        database = _reference(text)
        del plain[DATABASE]
    elif text:
        _refuse_password(text)
    return plain, database


def _reference(text: str) -> SecretRef:
    from mlflow_ae5_deploy.config.secret_refs import SecretRef

    try:
        return SecretRef.parse(text)
    except ValueError as error:
        raise Usage(f"The database URI is not a good reference: {error}.", where="--backend-store-uri") from None


def _refuse_password(text: str) -> None:
    from mlflow_ae5_deploy.common.redaction import register
    from mlflow_ae5_deploy.config.database_uri import holds_password

    if holds_password(text):
        register(text)
        raise Usage(
            "The database URI has a password in it, and a command line can be read by everybody on this machine.",
            where="--backend-store-uri",
            remedy="Put the whole URI into an environment variable or a file (chmod 600), and refer to it: "
            "env:NAME or file:PATH. Then change the password, because it has been seen.",
        )


def resolve(reference: SecretRef, values: SecretResolver) -> Secret:
    """The database URI behind a reference, checked. Raises Configuration that holds no part of it."""
    from mlflow_ae5_deploy.config.database_uri import parse_store_uri

    secret = values.secret(reference, "database URI of the garbage collection")
    try:
        parse_store_uri(secret.reveal())
    except ValueError as error:
        problem = str(error)
    else:
        return secret
    raise Configuration(f"The database URI {problem}.", where=f"--backend-store-uri ({reference})")
