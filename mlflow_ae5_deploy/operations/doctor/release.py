"""What would be installed: its MLflow, and whether its environment fits the database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mlflow_ae5_deploy.common.errors import DeployError
from mlflow_ae5_deploy.config.database_uri import parse_store_uri
from mlflow_ae5_deploy.config.secret_refs import SecretRef
from mlflow_ae5_deploy.config.warnings import store_advice
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.stage import AnyStage, compare
from mlflow_ae5_deploy.operations.doctor import versions
from mlflow_ae5_deploy.operations.doctor.findings import Finding, of_error, ok, skipped, warning
from mlflow_ae5_deploy.release.packages import PackageEnvironment, environment_of


def release(context: Context, stages: Sequence[AnyStage]) -> tuple[list[Finding], PackageEnvironment | None]:
    """stages: the runbook's, that bring the release to hand and build the archive. Nothing is downloaded."""
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
    known = context.outputs.release
    name = f"{known.kind} {known.version or known.source}" if known else "the release"
    return [
        ok("release", f"{name}, commands {', '.join(built.commands)}"),
        versions.mlflow_pin(environment, proxied=proxied(context)),
    ], environment


def proxied(context: Context) -> bool:
    return context.settings.server.default_artifact_root.startswith("mlflow-artifacts:")


def database(context: Context, environment: PackageEnvironment | None) -> Iterator[Finding]:
    """The URI's form, and whether the environment has what it needs. The database itself is not asked."""
    uri = context.settings.server.backend_store_uri
    if isinstance(uri, SecretRef) and uri.kind == "prompt":
        for check in ("database-uri", "database-driver"):
            yield skipped(check, "the database URI is asked for when it is needed", "Refer to it with env: or file:.")
        return
    try:
        value = context.values.store_uri(uri).reveal()
        store = parse_store_uri(value)
    except DeployError as trouble:
        yield of_error("database-uri", trouble)
        yield skipped("database-driver", "the database URI is not usable")
        return
    words = store_advice(value)
    if words and (environment is None or not environment.ours):
        yield warning("database-uri", " ".join(words), "State dialect and driver in server.backend_store_uri.")
    else:
        yield ok("database-uri", f"{store.dialect}{'' if store.driver_is_implied else '+' + store.driver}")
    if environment is None:
        yield skipped("database-driver", "what the release brings is not known")
    else:
        yield versions.database_driver(store, environment)
