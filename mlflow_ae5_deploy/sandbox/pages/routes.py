"""The pages for a browser, by the same rules and records as the API."""

from __future__ import annotations

import time
from typing import Any

from aiohttp import web

from mlflow_ae5_deploy.sandbox.api import views
from mlflow_ae5_deploy.sandbox.api.access import (
    deployment_of,
    job_of,
    project_of,
    run_of,
    visible_deployments,
    visible_jobs,
    visible_project,
    visible_projects,
    visible_runs,
)
from mlflow_ae5_deploy.sandbox.api.deployments import DEPLOYMENTS
from mlflow_ae5_deploy.sandbox.api.jobs import JOBS
from mlflow_ae5_deploy.sandbox.api.requests import account_of, core_of
from mlflow_ae5_deploy.sandbox.auth.login import auth_url, signed_in
from mlflow_ae5_deploy.sandbox.core import SandboxCore
from mlflow_ae5_deploy.sandbox.models import SandboxDeployment, SandboxJob, SandboxRun
from mlflow_ae5_deploy.sandbox.pages.html import page
from mlflow_ae5_deploy.sandbox.supervisor.processes import read_log

_LATEST_RUNS = 10


def routes() -> list[web.RouteDef]:
    return [
        web.get("/", home),
        web.get("/projects/detail/{id}", project),
        web.get("/deployments/detail/{id}", deployment),
        web.get("/deployments/detail/{id}/view", view),
        web.get("/jobs/detail/{id}", job),
        web.get("/runs/detail/{id}", run),
    ]


async def home(request: web.Request) -> web.Response:
    """Answer 200 also when signed out, and without a form: ae5-tools ends a logout here."""
    core, account = core_of(request), signed_in(request)
    if account is None:
        link = (auth_url(core), "Sign in")
        lines = ["Sign in with an account of the sandbox to see its projects, deployments and jobs."]
        return page(core, "message.html", account=None, heading="You are not signed in", lines=lines, link=link)
    runs = _newest(visible_runs(core, account))
    return page(
        core,
        "home.html",
        account=account,
        projects=visible_projects(core, account),
        deployments=[_deployment(core, d) for d in visible_deployments(core, account)],
        jobs=[_job(core, j, runs) for j in visible_jobs(core, account)],
        runs=[views.run(core, r) for r in runs[:_LATEST_RUNS]],
        secrets=sorted(core.state.secrets.get(account.username, {})),
    )


async def project(request: web.Request) -> web.Response:
    core, account, shown = core_of(request), account_of(request), project_of(request)
    runs = _newest(visible_runs(core, account))
    return page(
        core,
        "project.html",
        account=account,
        project=shown,
        deployments=[_deployment(core, d) for d in visible_deployments(core, account) if d.project_id == shown.id],
        jobs=[_job(core, j, runs) for j in visible_jobs(core, account) if j.project_id == shown.id],
    )


async def deployment(request: web.Request) -> web.Response:
    core, account, shown = core_of(request), account_of(request), deployment_of(request)
    return page(
        core,
        "deployment.html",
        account=account,
        deployment=_deployment(core, shown),
        project=visible_project(core, account, shown.project_id),
        tokens=sum(expires > time.time() for expires in shown.tokens.values()),
        logs=request.app[DEPLOYMENTS].logs(shown),
    )


async def view(request: web.Request) -> web.Response:
    """Show the application in a frame, at the same address as AE5."""
    core = core_of(request)
    shown = _deployment(core, deployment_of(request))
    return page(core, "view.html", account=account_of(request), deployment=shown)


async def job(request: web.Request) -> web.Response:
    core, account, shown = core_of(request), account_of(request), job_of(request)
    return page(
        core,
        "job.html",
        account=account,
        job=views.job(core, shown),
        runs=[views.run(core, r) for r in _newest(visible_runs(core, account)) if r.job_id == shown.id],
        project=visible_project(core, account, shown.project_id),
    )


async def run(request: web.Request) -> web.Response:
    core, shown = core_of(request), run_of(request)
    core.timing.read(shown.id)
    return page(
        core,
        "run.html",
        account=account_of(request),
        run=views.run(core, shown),
        job=core.state.jobs.get(shown.job_id),
        log=read_log(request.app[JOBS].log_file(shown)),
    )


def _deployment(core: SandboxCore, shown: SandboxDeployment) -> dict[str, Any]:
    core.timing.read(shown.id)
    return views.deployment(core, shown) | {"collaborators": shown.collaborators}


def _job(core: SandboxCore, shown: SandboxJob, runs: list[SandboxRun]) -> dict[str, Any]:
    last = next((r for r in runs if r.job_id == shown.id), None)
    return views.job(core, shown) | {"last_run": views.run(core, last) if last else None}


def _newest(runs: list[SandboxRun]) -> list[SandboxRun]:
    return sorted(runs, key=lambda r: r.created, reverse=True)
