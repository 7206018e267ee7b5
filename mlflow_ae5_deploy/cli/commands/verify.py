"""verify: prove the server from outside."""

from __future__ import annotations

import secrets
from dataclasses import asdict
from typing import TYPE_CHECKING

from mlflow_ae5_deploy.cli.context import given_token, opened
from mlflow_ae5_deploy.cli.options import TargetOptions, Yes
from mlflow_ae5_deploy.common.errors import EXIT_DONE

if TYPE_CHECKING:
    from mlflow_ae5_deploy.common.redaction import Secret
    from mlflow_ae5_deploy.engine.context import Context
    from mlflow_ae5_deploy.operations.verify import Verification

NAME = "verify"
HELP = "Prove the server from outside: log, upload, register, read back, clean up; strangers get nothing."


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
                outcome = prove(options, context)
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


def prove(options: TargetOptions, context: Context) -> Verification:
    """Every check, each told when it is made."""
    from mlflow_ae5_deploy.common.redaction import Secret
    from mlflow_ae5_deploy.operations.verify import Verifier
    from mlflow_ae5_deploy.resources import served_database

    reporter = options.reporter
    url, token = url_and_token(options, context)
    verifier = Verifier(
        context.server(url, token),
        context.server(url, None),
        context.server(url, Secret(f"not-a-token-{secrets.token_hex(16)}")),
        context.clock,
        served_database.observe(context, running(context)[0]),
    )
    reporter.line(f"Verifying {url} from outside")
    outcome = verifier.verify(on_check=reporter.check)
    if outcome.passed:
        reporter.line(f"All {len(outcome.checks)} checks passed.", style="bold")
    return outcome


def running(context: Context) -> tuple[str, str]:
    """(id, URL) of the running deployment; raises NotFound when there is none.

    One that is starting is awaited, except in a run that writes nothing: whether it answers takes a token to see.
    """
    from mlflow_ae5_deploy.common.errors import NotFound
    from mlflow_ae5_deploy.resources.deployment import await_serving

    name, project = context.settings.deployment.name, context.cached.project(context.settings.project.name)
    deployment = next(
        (d for d in context.cached.deployments() if project and d.project_id == project.id and d.name == name), None
    )
    if deployment is not None and deployment.is_starting and not context.options.dry:
        deployment = await_serving(context, deployment)
    if deployment is None or not deployment.url or not deployment.is_started:
        state = f"it is {deployment.state}" if deployment else "there is none"
        raise NotFound(
            f"No running deployment `{name}` of `{context.account}`: {state}.",
            where=context.access.target.options.hostname,
            remedy="Wait until it has started; `mlflow-ae5-deploy status` tells."
            if deployment and deployment.is_starting
            else "Run `mlflow-ae5-deploy install` first.",
        )
    return deployment.id, deployment.url.rstrip("/")


def url_and_token(options: TargetOptions, context: Context) -> tuple[str, Secret]:
    """The running deployment's URL, and a token that opens it."""
    deployment_id, url = running(context)
    return url, given_token(options) or context.token_for(deployment_id)
