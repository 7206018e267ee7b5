"""doctor: look at everything an installation depends on, and change nothing."""

from __future__ import annotations

from typing import Annotated

import typer

from mlflow_ae5_deploy.cli.context import given_token, load_settings, reading, writing
from mlflow_ae5_deploy.cli.options import ReleaseWriteOptions
from mlflow_ae5_deploy.common.errors import EXIT_DONE, StageFailed

NAME = "doctor"

FAILED = StageFailed.exit_code

FromPlatform = Annotated[
    bool,
    typer.Option(
        "--from-platform",
        help="Also run a job on the platform, which is taken away again: are database and artifact store reachable?",
    ),
]


def command(
    options: ReleaseWriteOptions,
    from_platform: FromPlatform = False,
) -> int:
    """Changes nothing; with --from-platform, nothing that stays."""
    from mlflow_ae5_deploy.operations.doctor.findings import ERROR, Finding
    from mlflow_ae5_deploy.operations.doctor.run import examine
    from mlflow_ae5_deploy.render.doctor import findings_data, show, summary
    from mlflow_ae5_deploy.runbook.stages.registry import STAGES

    advice = load_settings(options).warnings
    reporter = options.reporter
    opened = writing if from_platform else reading

    def show_finding(finding: Finding) -> None:
        show(reporter, finding)
        reporter.doing("doctor")

    with opened(options, NAME, create_account=False) as context:
        reporter.doing("doctor")
        findings = examine(
            context,
            STAGES,
            advice=advice,
            token=given_token(options),
            job=from_platform,
            on_finding=show_finding,
            on_log=lambda line: None if options.json else reporter.note(f"  {line}", style="dim"),
        )
    if options.json:
        reporter.data(findings_data(findings))
    reporter.line()
    reporter.hanging("", summary(findings), "bold")
    return FAILED if any(finding.severity == ERROR for finding in findings) else EXIT_DONE
