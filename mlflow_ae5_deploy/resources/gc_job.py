"""The garbage collection job as the configuration wants it."""

from __future__ import annotations

from mlflow_ae5_deploy.common.cron import parse_cron
from mlflow_ae5_deploy.config.settings import Settings
from mlflow_ae5_deploy.jobs.spec import JobSpec


def desired_job(settings: Settings) -> JobSpec:
    gc = settings.gc
    return JobSpec(
        gc.name,
        gc.command,
        parse_cron(gc.schedule).expression,
        tuple(sorted(gc.variables.items())),
        gc.resource_profile,
    )
