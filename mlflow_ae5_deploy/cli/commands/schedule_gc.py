"""schedule-gc: change, run, pause or delete the garbage collection job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlflow_ae5_deploy.cli.context import load_settings, writing
from mlflow_ae5_deploy.cli.options import WriteOptions, examples
from mlflow_ae5_deploy.common.errors import EXIT_DONE, Configuration, DeployError, Usage
from mlflow_ae5_deploy.common.variable_names import DATABASE, GC_DRY_RUN, GC_TTL

if TYPE_CHECKING:
    from mlflow_ae5_deploy.config.secret_refs import SecretRef
    from mlflow_ae5_deploy.operations.schedule_gc import GcRequest, ScheduleGcResult

NAME = "schedule-gc"
_REFERENCES = ("env:", "file:")

Cron = Annotated[str | None, typer.Option("--cron", metavar="CRON", help="When to run, in UTC, such as '30 3 * * *'.")]
Ttl = Annotated[
    str | None, typer.Option("--ttl", metavar="DURATION", help="Keep deleted items this long, such as 30d0h0m0s.")
]
BackendStoreUri = Annotated[
    str | None,
    typer.Option(
        "--backend-store-uri",
        metavar="URI",
        help="Another database than the server's. If it has a password: env:NAME or file:PATH.",
    ),
]
Variable = Annotated[
    list[str] | None, typer.Option("--variable", metavar="NAME=VALUE", help="A variable of the job. Repeatable.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="The job only lists what it would remove. With --run-now: this run only.")
]
RunNow = Annotated[
    bool,
    typer.Option(
        "--run-now",
        help="Start a run now, show what it deletes, exit with its result. The job keeps other options given with it.",
    ),
]
Pause = Annotated[bool, typer.Option("--pause", help="Pause the job; `install` keeps it paused.")]
Resume = Annotated[bool, typer.Option("--resume", help="Resume a paused job.")]
Remove = Annotated[bool, typer.Option("--remove", help="Delete the job and the records of its runs.")]
KeepRuns = Annotated[int, typer.Option("--keep-runs", min=0, metavar="N", help="Keep the N most recent run records.")]
WaitForRun = Annotated[
    float, typer.Option("--wait", metavar="SECONDS", min=1, help="Wait this long for an active run or for --run-now.")
]


@examples(
    {
        "schedule-gc": "Schedule the job as configured",
        "schedule-gc --run-now --dry-run": "List what a run would remove",
        "schedule-gc --pause": "Pause the job",
    }
)
def command(
    options: WriteOptions,
    cron: Cron = None,
    ttl: Ttl = None,
    backend_store_uri: BackendStoreUri = None,
    variable: Variable = None,
    dry_run: DryRun = False,
    run_now: RunNow = False,
    pause: Pause = False,
    resume: Resume = False,
    remove: Remove = False,
    keep_runs: KeepRuns = 50,
    wait: WaitForRun = 900.0,
) -> int:
    """The job removes what users deleted. Without options: exactly one job, as configured; asks before it replaces a
    job that differs. With options that change the job it is replaced at once, unless it would delete earlier than
    before: that is asked. A job that is replaced loses the records and logs of its runs. Safe to re-run.
    """
    from mlflow_ae5_deploy.operations.schedule_gc import GcRequest

    _check(cron, ttl)
    plain, database = _variables(ttl, backend_store_uri, variable or [])
    switches = {"pause": pause, "resume": resume, "remove": remove, "run-now": run_now}
    chosen = [name for name, given in switches.items() if given]
    if len(chosen) > 1:
        raise Usage(f"{' and '.join('--' + name for name in chosen)} exclude each other.", remedy="Leave one out.")
    action = chosen[0] if chosen else "set"
    changes_job = bool(cron is not None or plain or database)
    if action in ("pause", "resume", "remove") and (changes_job or dry_run):
        raise Usage(f"--{action} excludes options that change the job.", remedy="Leave them out.")
    if action == "run-now" and dry_run:
        if cron is not None:
            raise Usage("--cron and --run-now --dry-run exclude each other.", remedy="Leave --cron or --run-now out.")
        action = "dry-run"
    elif dry_run:
        plain[GC_DRY_RUN], changes_job = "true", True
    overrides: dict[str, Any] = {"gc.schedule": cron} if cron is not None else {}
    if plain:
        overrides["gc.variables"] = plain
    action = "run" if action == "run-now" else action
    return _run(options, GcRequest(action, database, changes_job, keep_runs, wait), overrides)  # type: ignore[arg-type]


def _run(options: WriteOptions, request: GcRequest, overrides: Mapping[str, Any]) -> int:
    from mlflow_ae5_deploy.operations import schedule_gc
    from mlflow_ae5_deploy.render.schedule_gc import GcReporter, schedule_data
    from mlflow_ae5_deploy.resources.job_specs import gc_job

    configured = gc_job(load_settings(options).settings)
    reporter = options.reporter
    result: ScheduleGcResult | None = None
    try:
        with writing(options, _recorded_as(request, overrides), settings=overrides) as context:
            reporter.doing(NAME)
            progress = GcReporter(reporter, request, options.profile)
            result = schedule_gc.carry_out(context, request, configured, progress)
            if result.run is not None:
                schedule_gc.require(result.run)
    except DeployError as error:
        if result is not None:
            error.document |= schedule_data(result, context.outputs.warnings)
        raise
    outcome = result.schedule.outcome if result.schedule else "ran"
    reporter.document(NAME, outcome, **schedule_data(result, context.outputs.warnings), error=None)
    return EXIT_DONE


def _recorded_as(request: GcRequest, overrides: Mapping[str, Any]) -> str:
    """The verb with the options that tell what it does, for the journal."""
    only_lists = request.action == "dry-run" or GC_DRY_RUN in overrides.get("gc.variables", {})
    action = {"set": "", "run": " --run-now", "dry-run": " --run-now"}.get(request.action, f" --{request.action}")
    return NAME + action + (" --dry-run" if only_lists else "")


# the options ------------------------------------------------------------------------------------------------------


def _check(cron: str | None, ttl: str | None) -> None:
    """Raise Configuration now, so that the error names the option."""
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
    """The job's variables, and the reference to its database URI."""
    given: list[tuple[str, str]] = []
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise Usage("--variable takes NAME=VALUE.", where="--variable")
        given.append((name, value))
    given += [(name, value) for name, value in ((GC_TTL, ttl), (DATABASE, uri)) if value is not None]
    names = [name for name, _ in given]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise Usage(f"{', '.join(twice)} is given more than once.", where="--variable")
    plain = dict(given)
    text = plain.get(DATABASE, "")
    if text.startswith(_REFERENCES):
        del plain[DATABASE]
        return plain, _reference(text)
    _refuse_password(text)
    return plain, None


def _reference(text: str) -> SecretRef:
    from mlflow_ae5_deploy.config.secret_refs import SecretRef

    try:
        return SecretRef.parse(text)
    except ValueError as error:
        raise Usage(f"The database URI is not a valid reference: {error}.", where="--backend-store-uri") from None


def _refuse_password(text: str) -> None:
    from mlflow_ae5_deploy.common.redaction import register
    from mlflow_ae5_deploy.config.database_uri import holds_password

    if text and holds_password(text):
        register(text)
        raise Usage(
            "The database URI contains a password, and everybody on this machine can read a command line.",
            where="--backend-store-uri",
            remedy="Put the whole URI into an environment variable or a file (chmod 600), and refer to it: "
            "env:NAME or file:PATH. Then change the password, because it has been exposed.",
        )
