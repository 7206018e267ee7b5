"""plan: preview an install. The session refuses every write."""

from __future__ import annotations

from typing import Annotated

import typer

from mlflow_ae5_deploy.cli.context import reading
from mlflow_ae5_deploy.cli.options import CreateAccount, ReleaseOptions, examples
from mlflow_ae5_deploy.cli.stages import finish
from mlflow_ae5_deploy.common.errors import EXIT_CHANGES_PENDING, EXIT_DONE

NAME = "plan"

ExitCode = Annotated[bool, typer.Option("--exit-code", help="Exit with 30 if `install` would change something.")]


@examples(
    {
        "plan --sandbox": "Preview an installation on the sandbox",
        "plan --config ae5.yaml": "Preview one on a cluster",
        "plan --exit-code --json": "Detect drift in a script",
    }
)
def command(options: ReleaseOptions, create_account: CreateAccount = False, exit_code: ExitCode = False) -> int:
    """Writes nothing."""
    from mlflow_ae5_deploy.engine.executor import run
    from mlflow_ae5_deploy.render.changes import StageLines
    from mlflow_ae5_deploy.runbook.stages.order import STAGES

    reporter = options.reporter
    lines = StageLines(reporter)
    with reading(options, NAME, create_account=create_account) as context:
        result = run(STAGES, context, on_stage=reporter.stage_begins, on_result=lines.add)
        finish(NAME, options, context, result, lines, result.error, create_account=create_account)
    if result.error is not None:
        return result.error.exit_code
    return EXIT_CHANGES_PENDING if exit_code and result.pending else EXIT_DONE
