"""doctor: check everything an installation depends on, and change nothing."""

from __future__ import annotations

from typing import Annotated

import typer

from mlflow_ae5_deploy.cli.context import given_token, load_settings, reading, writing
from mlflow_ae5_deploy.cli.options import ReleaseWriteOptions, examples
from mlflow_ae5_deploy.common.errors import EXIT_DONE, StageFailed

NAME = "doctor"
FAILED = StageFailed.exit_code

FromPlatform = Annotated[
    bool,
    typer.Option(
        "--from-platform",
        help="Also check database, artifact store and endpoint from a temporary job.",
    ),
]


@examples(
    {
        "doctor": "Check what this machine can see",
        "doctor --from-platform": "Check the database and the stores too",
    }
)
def command(options: ReleaseWriteOptions, from_platform: FromPlatform = False) -> int:
    """Changes nothing. Exits 20 if a check fails."""
    from mlflow_ae5_deploy.operations.doctor.checks import run_checks
    from mlflow_ae5_deploy.operations.doctor.findings import ERROR, Finding
    from mlflow_ae5_deploy.render.doctor import DoctorReporter, show_summary
    from mlflow_ae5_deploy.runbook.stages.order import STAGES

    advice = load_settings(options).warnings
    reporter = options.reporter
    groups = DoctorReporter(reporter)

    def show_finding(finding: Finding) -> None:
        groups.add(finding)
        reporter.doing(f"check {finding.group}")

    with (writing if from_platform else reading)(options, NAME, create_account=False) as context:
        try:
            findings = run_checks(
                context,
                STAGES,
                advice=advice,
                token=given_token(options),
                job=from_platform,
                on_finding=show_finding,
            )
        finally:
            groups.flush()
    show_summary(reporter, findings, from_platform=from_platform)
    return FAILED if any(finding.severity == ERROR for finding in findings) else EXIT_DONE
