"""doctor: look at everything an installation depends on, and change nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from mlflow_ae5_deploy.cli import options
from mlflow_ae5_deploy.cli.context import SharedOptions, load_settings, reporter_for
from mlflow_ae5_deploy.cli.locked_run import LockWait, changing, looking
from mlflow_ae5_deploy.common.errors import EXIT_DONE, StageFailed

if TYPE_CHECKING:
    from mlflow_ae5_deploy.render.console import Reporter

NAME = "doctor"
HELP = "Examine what an installation depends on, with a remedy for what is wrong. Ends with 20 if there is an error."

FAILED = StageFailed.exit_code

FromPlatform = Annotated[
    bool,
    typer.Option(
        "--from-platform",
        help="Also run a job on the platform, which is taken away again: are database and artifact store reachable?",
    ),
]


def command(
    config: options.Config = None,
    profile: options.Profile = None,
    sandbox: options.Sandbox = False,
    release: options.Release = None,
    from_platform: FromPlatform = False,
    hostname: options.Hostname = None,
    username: options.Username = None,
    session: options.SessionKind = None,
    database: options.Database = None,
    lock_wait: LockWait = 0.0,
    json: options.Json = False,
    traceback: options.Traceback = False,
) -> int:
    """Changes nothing; with --from-platform, nothing that stays."""
    choices = SharedOptions(config, profile, sandbox, json, hostname, username, session, release, database, traceback)
    reporter = reporter_for(choices)
    try:
        return _doctor(choices, reporter, job=from_platform, lock_wait=lock_wait)
    finally:
        reporter.close()


def _doctor(choices: SharedOptions, reporter: Reporter, *, job: bool, lock_wait: float) -> int:
    from mlflow_ae5_deploy.common.redaction import Secret
    from mlflow_ae5_deploy.operations.doctor.findings import ERROR, Finding
    from mlflow_ae5_deploy.operations.doctor.run import examine
    from mlflow_ae5_deploy.render.doctor import findings_data, show, summary
    from mlflow_ae5_deploy.runbook.stages.registry import STAGES

    advice = load_settings(choices).warnings
    given = choices.environ.get("MLFLOW_TRACKING_TOKEN")
    entered = (
        changing(choices, reporter, verb=NAME, lock_wait=lock_wait) if job else looking(choices, reporter, verb=NAME)
    )

    def tell(finding: Finding) -> None:
        show(reporter, finding)
        reporter.doing("doctor")

    with entered as context:
        context.options = replace(context.options, create_account=context.settings.account.create)
        reporter.doing("doctor")
        findings = examine(
            context,
            STAGES,
            advice=advice,
            token=Secret(given) if given and not choices.sandbox else None,
            job=job,
            on_finding=tell,
            on_log=lambda line: None if choices.json_mode else reporter.note(f"  {line}", style="dim"),
        )
    if choices.json_mode:
        reporter.data(findings_data(findings))
    reporter.line()
    reporter.hanging("", summary(findings), "bold")
    return FAILED if any(finding.severity == ERROR for finding in findings) else EXIT_DONE
