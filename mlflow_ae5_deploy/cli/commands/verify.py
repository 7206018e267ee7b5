"""verify: prove the server from outside."""

from __future__ import annotations

import secrets
from dataclasses import asdict
from typing import TYPE_CHECKING

from mlflow_ae5_deploy.cli import options
from mlflow_ae5_deploy.cli.context import SharedOptions, opened, reporter_for
from mlflow_ae5_deploy.common.errors import EXIT_DONE

if TYPE_CHECKING:
    from mlflow_ae5_deploy.common.redaction import Secret
    from mlflow_ae5_deploy.config.load import LoadedSettings
    from mlflow_ae5_deploy.engine.context import Context, RunOptions
    from mlflow_ae5_deploy.operations.verify import Verification
    from mlflow_ae5_deploy.render.console import Reporter

NAME = "verify"
HELP = "Prove the server from outside: log, upload, register, read back, clean up; strangers get nothing."


def command(
    config: options.Config = None,
    profile: options.Profile = None,
    sandbox: options.Sandbox = False,
    hostname: options.Hostname = None,
    username: options.Username = None,
    session: options.SessionKind = None,
    json: options.Json = False,
    traceback: options.Traceback = False,
) -> int:
    """Uses MLFLOW_TRACKING_TOKEN of the environment if set, else a token issued for this purpose."""
    choices = SharedOptions(config, profile, sandbox, json, hostname, username, session, traceback=traceback)
    reporter = reporter_for(choices)
    try:
        return _verify(choices, reporter)
    finally:
        reporter.close()


def _verify(choices: SharedOptions, reporter: Reporter) -> int:
    from mlflow_ae5_deploy.common.errors import VerificationFailed
    from mlflow_ae5_deploy.engine.context import RunOptions
    from mlflow_ae5_deploy.engine.journal_frame import recorded
    from mlflow_ae5_deploy.operations.verify import require
    from mlflow_ae5_deploy.render.install import SCHEMA

    def wishes(_loaded: LoadedSettings) -> RunOptions:
        return RunOptions()

    with opened(choices, reporter, verb=NAME, wishes=wishes) as context:
        reporter.doing("verify")
        try:
            with recorded(context):
                outcome = prove(choices, reporter, context)
                if choices.json_mode:
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
            if not choices.json_mode:
                raise
            return error.exit_code  # the document has told what failed
    return EXIT_DONE


def prove(choices: SharedOptions, reporter: Reporter, context: Context) -> Verification:
    """Every check, each told when it is made."""
    from mlflow_ae5_deploy.common.redaction import Secret
    from mlflow_ae5_deploy.operations.verify import Verifier
    from mlflow_ae5_deploy.resources import served_database

    url, token = url_and_token(choices, context)
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


def url_and_token(choices: SharedOptions, context: Context) -> tuple[str, Secret]:
    """The running deployment's URL, and a token that opens it."""
    from mlflow_ae5_deploy.common.redaction import Secret

    deployment_id, url = running(context)
    given = choices.environ.get("MLFLOW_TRACKING_TOKEN")
    token = Secret(given) if given and not choices.sandbox else context.token_for(deployment_id)
    return url, token
