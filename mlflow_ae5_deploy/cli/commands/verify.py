"""verify: test the server end to end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_ae5_deploy.cli.context import given_token, opened
from mlflow_ae5_deploy.cli.options import TargetOptions, Yes, examples
from mlflow_ae5_deploy.common.errors import EXIT_DONE, VerificationFailed

if TYPE_CHECKING:
    from mlflow_ae5_deploy.engine.context import Context
    from mlflow_ae5_deploy.operations.verify import Verification

NAME = "verify"


@examples(
    {
        "verify": "Test with a token issued for this purpose",
        "verify --json": "The same for a program",
    }
)
def command(options: TargetOptions, yes: Yes = False) -> int:
    """Writes an experiment, a model and an artifact, reads them back and deletes them. Checks that requests without a
    token are rejected. Uses the token in MLFLOW_TRACKING_TOKEN, or issues one. Exits 21 if a check fails.
    """
    from mlflow_ae5_deploy.engine.context import RunOptions
    from mlflow_ae5_deploy.engine.executor import recorded
    from mlflow_ae5_deploy.operations.verify import require

    reporter = options.reporter
    with opened(options, NAME, RunOptions()) as context:
        reporter.doing(NAME)
        try:
            with recorded(context):
                verification = verify_server(options, context)
                reporter.document(NAME, "passed" if verification.passed else "failed", **verification.data())
                require(verification)
        except VerificationFailed as error:
            if not options.json:
                raise
            return error.exit_code  # the document shows the failed checks
    return EXIT_DONE


def verify_server(options: TargetOptions, context: Context) -> Verification:
    """Run every check and show each as it is done."""
    from mlflow_ae5_deploy.operations.verify import verify
    from mlflow_ae5_deploy.resources.deployment import required_running

    reporter = options.reporter
    deployment_id, url = required_running(context)
    token = given_token(options) or context.token_for(deployment_id)
    reporter.line(f"Testing {url}")
    verification = verify(context, url, token, reporter.check, deployment_id=deployment_id)
    if verification.passed:
        seconds = sum(check.seconds for check in verification.checks)
        reporter.line(f"All {len(verification.checks)} checks passed. Took {seconds:.1f} s.", style="bold")
    return verification
