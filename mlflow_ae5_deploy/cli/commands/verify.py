"""verify: prove the server from outside."""

from __future__ import annotations

import secrets
from dataclasses import asdict
from typing import TYPE_CHECKING

from mlflow_ae5_deploy.cli.context import given_token, opened
from mlflow_ae5_deploy.cli.options import TargetOptions, Yes
from mlflow_ae5_deploy.common.errors import EXIT_DONE

if TYPE_CHECKING:
    from mlflow_ae5_deploy.engine.context import Context
    from mlflow_ae5_deploy.operations.verify import Verification

NAME = "verify"


def command(
    options: TargetOptions,
    yes: Yes = False,
) -> int:
    """Uses MLFLOW_TRACKING_TOKEN of the environment if set, else a token issued for this purpose."""
    from mlflow_ae5_deploy.common.errors import VerificationFailed
    from mlflow_ae5_deploy.engine.context import RunOptions
    from mlflow_ae5_deploy.engine.journal_frame import recorded
    from mlflow_ae5_deploy.operations.verify import require
    from mlflow_ae5_deploy.render.install import SCHEMA

    reporter = options.reporter
    with opened(options, NAME, RunOptions()) as context:
        reporter.doing("verify")
        try:
            with recorded(context):
                outcome = verify_server(options, context)
                if options.json:
                    reporter.data(
                        {
                            "schema": SCHEMA,
                            "verb": NAME,
                            "outcome": "passed" if outcome.passed else "failed",
                            "url": outcome.url,
                            "checks": [asdict(check) for check in outcome.checks],
                        }
                    )
                require(outcome)
        except VerificationFailed as error:
            if not options.json:
                raise
            return error.exit_code  # the document has told what failed
    return EXIT_DONE


def verify_server(options: TargetOptions, context: Context) -> Verification:
    """Every check, each told when it is made."""
    from mlflow_ae5_deploy.common.redaction import Secret
    from mlflow_ae5_deploy.operations.verify import Verifier
    from mlflow_ae5_deploy.resources import served_database
    from mlflow_ae5_deploy.resources.deployment import required_running

    reporter = options.reporter
    deployment_id, url = required_running(context)
    token = given_token(options) or context.token_for(deployment_id)
    verifier = Verifier(
        context.server(url, token),
        context.server(url, None),
        context.server(url, Secret(f"not-a-token-{secrets.token_hex(16)}")),
        context.clock,
        served_database.observe(context, deployment_id),
    )
    reporter.line(f"Verifying {url} from outside")
    outcome = verifier.verify(on_check=reporter.check)
    if outcome.passed:
        reporter.line(f"All {len(outcome.checks)} checks passed.", style="bold")
    return outcome
