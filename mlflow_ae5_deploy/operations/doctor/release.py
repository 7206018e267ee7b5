"""The release to install, and the MLflow versions with known problems.

Measured, or from MLflow's issues: 3.5 to 3.11 took over 5 minutes and 30 GB of memory for an upload of 1 GB through the
server (mlflow#22665).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mlflow_ae5_deploy.common.errors import DeployError
from mlflow_ae5_deploy.common.text import counted
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.stage import AnyStage, compare
from mlflow_ae5_deploy.operations.doctor.findings import Finding, error, info, of_error, ok, skipped, warning
from mlflow_ae5_deploy.release.packages import PackageEnvironment, Version, environment_of, exact_version

BAD_UPLOADS = ((3, 5), (3, 11))  # first and last series
INCOMPLETE: dict[Version, str] = {(3, 18, 0): "its mlflow-skinny could not be installed"}


def check_release(context: Context, stages: Sequence[AnyStage]) -> tuple[list[Finding], PackageEnvironment | None]:
    """stages: those of release and archive, compared only: nothing is downloaded."""
    try:
        for stage in stages:
            compare(stage, context)
        built = context.outputs.built
        if built is None:
            why = "the release is not downloaded yet"
            return [
                skipped(check, why, "Run `plan`, which downloads it.") for check in ("release", "mlflow-version")
            ], None
        environment = environment_of(built.path.read_bytes(), context.settings.deployment.command)
    except DeployError as trouble:
        return [of_error("release", trouble)], None
    release = context.outputs.release
    name = f"{release.kind} {release.version or release.source}" if release else "the release"
    return [
        ok("release", f"{name}, {counted(len(built.commands), 'commands')}"),
        mlflow_pin(environment, proxied=proxied(context)),
    ], environment


def proxied(context: Context) -> bool:
    return context.settings.server.default_artifact_root.startswith("mlflow-artifacts:")


def mlflow_pin(environment: PackageEnvironment, *, proxied: bool) -> Finding:
    """proxied: clients upload through the server (the artifact root is mlflow-artifacts:)."""
    check, spec = "mlflow-version", environment.packages.get("mlflow")
    environment_name = f"environment {environment.name} of {environment.command}"
    if spec is None:
        return info(check, f"the {environment_name} has no package mlflow, so its version is unknown")
    version = exact_version(spec)
    if version is None or len(version) < 3:
        return warning(
            check,
            f"the {environment_name} requires mlflow{spec or ' of any version'}: the next start may install another "
            "version, with another database schema",
            "Pin it exactly: slipstream.dependencies: {mlflow: '==3.17.2'}.",
        )
    return _judge_mlflow(check, version, f"mlflow {'.'.join(map(str, version))} in the {environment_name}", proxied)


def mlflow_running(version: str, pinned: Version | None, *, proxied: bool) -> Finding:
    """The version that the running server states, beside what the release to install asks for."""
    check = "mlflow-running"
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    if pinned is not None and numbers[: len(pinned)] != pinned:
        desired = ".".join(map(str, pinned))
        return warning(
            check,
            f"the running server is {version}, the configured release asks for {desired}",
            "Run `upgrade`, which backs up first: another version changes the database schema.",
        )
    return _judge_mlflow(check, numbers, f"the running server is {version}", proxied)


def _judge_mlflow(check: str, version: Version, message: str, proxied: bool) -> Finding:
    first, last = BAD_UPLOADS
    if first <= version[:2] <= last:
        text = f"{message}: from 3.5 to 3.11 an upload of 1 GB through the server takes minutes and 30 GB of memory"
        remedy = "Use 3.12 or later: `--release bundled` has 3.17.2."
        return (
            error(check, text, remedy)
            if proxied
            else warning(check, f"{text}; yours do not go through the server", remedy)
        )
    if version in INCOMPLETE:
        return warning(check, f"{message}: {INCOMPLETE[version]}", "Use 3.17.2.")
    if version < (3,):
        return info(check, f"{message}, which is old: it has neither host checks nor a configurable frame policy")
    return ok(check, message)
