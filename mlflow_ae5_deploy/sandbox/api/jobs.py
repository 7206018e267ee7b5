"""Jobs and their runs."""

from __future__ import annotations

from types import NoneType

from aiohttp import web

from mlflow_ae5_deploy.sandbox.api import views
from mlflow_ae5_deploy.sandbox.api.access import (
    check_source,
    job_of,
    project_of,
    run_of,
    visible_jobs,
    visible_runs,
    workload_fields,
)
from mlflow_ae5_deploy.sandbox.api.profiles import check_profile
from mlflow_ae5_deploy.sandbox.api.requests import account_of, core_of, done, json_fields, no_body, variables_of
from mlflow_ae5_deploy.sandbox.errors import bad
from mlflow_ae5_deploy.sandbox.models import SandboxJob, now_text
from mlflow_ae5_deploy.sandbox.supervisor.jobs import JobSupervisor, check_schedule
from mlflow_ae5_deploy.sandbox.supervisor.processes import read_log

API = "/api/v2"
JOBS = web.AppKey("jobs", JobSupervisor)


def routes() -> list[web.RouteDef]:
    job, run = f"{API}/jobs/{{id}}", f"{API}/runs/{{id}}"
    return [
        web.post(f"{API}/projects/{{id}}/jobs", create),
        web.get(f"{API}/jobs", list_jobs),
        web.get(job, get_job),
        web.patch(job, patch),
        web.delete(job, delete),
        web.get(f"{job}/runs", list_job_runs),
        web.post(f"{job}/runs", run_now),
        web.post(f"{job}/pause", pause),
        web.post(f"{job}/unpause", unpause),
        web.get(f"{API}/runs", list_runs),
        web.get(run, get_run),
        web.get(f"{run}/logs", run_logs),
        web.post(f"{run}/stop", stop_run),
        web.delete(run, delete_run),
    ]


async def create(request: web.Request) -> web.Response:
    core, account = core_of(request), account_of(request)
    project = project_of(request)
    fields = await json_fields(
        request,
        {
            **{"source": str, "revision": str, "resource_profile": str, "command": str, "target": str},
            **{"schedule": (str, NoneType), "autorun": bool, "name": str},
        },
        {"variables": dict},
    )
    check_source(project, fields)
    if fields["schedule"] is not None:
        check_schedule(fields["schedule"])
    _check_name(request, fields["name"])
    shared = workload_fields(project, account.username, fields, fields["name"])
    job = SandboxJob(**shared, schedule=fields["schedule"])
    core.state.jobs[job.id] = job
    core.timing.born(job.id, core.settings)
    core.save()
    request.app[JOBS].scheduled(job)
    if fields["autorun"]:
        request.app[JOBS].launch(job)
    return web.json_response(views.job(core, job))


def _check_name(request: web.Request, name: str) -> None:
    """Raise ApiError 400 for a name in use, also by a run of a deleted job."""
    state, owner = core_of(request).state, account_of(request).username
    if not name.strip():
        raise bad("Job name is not valid")
    if any(j.name == name and j.owner == owner for j in state.jobs.values()):
        raise bad(f"Job name is not unique: {name}")
    if any(r.name == name and r.owner == owner for r in state.runs.values()):
        raise bad(f"Job name is not unique: {name} is the name of an earlier run")


async def list_jobs(request: web.Request) -> web.Response:
    core = core_of(request)
    return web.json_response([views.job(core, j) for j in visible_jobs(core, account_of(request))])


async def get_job(request: web.Request) -> web.Response:
    return web.json_response(views.job(core_of(request), job_of(request)))


async def patch(request: web.Request) -> web.Response:
    core, job = core_of(request), job_of(request)
    fields = await json_fields(
        request,
        None,
        {"name": str, "command": str, "schedule": str, "resource_profile": str, "variables": dict},
    )
    revision = core.state.projects[job.project_id].revision(job.revision)
    if "command" in fields and not (revision and revision.has_command(fields["command"])):
        raise bad(f"Unknown command {fields['command']}")
    check_profile(fields.get("resource_profile", job.resource_profile))
    if "schedule" in fields:
        check_schedule(fields["schedule"])
    if fields.get("name", job.name) != job.name:
        _check_name(request, fields["name"])
    if "variables" in fields:
        fields["variables"] = variables_of(fields["variables"])
    for name, value in fields.items():
        setattr(job, name, value)
    return _changed(request, job)


async def delete(request: web.Request) -> web.Response:
    core, job = core_of(request), job_of(request)
    await no_body(request)
    runs = [r for r in core.state.runs.values() if r.job_id == job.id]
    if any(r.active for r in runs):
        raise bad("Job has an active run")
    del core.state.jobs[job.id]
    core.save()
    if not core.settings.job_delete_keeps_runs:
        for run in runs:
            await request.app[JOBS].remove_run(run)
    return done()


async def pause(request: web.Request) -> web.Response:
    return await _set_paused(request, True)


async def unpause(request: web.Request) -> web.Response:
    return await _set_paused(request, False)


async def _set_paused(request: web.Request, paused: bool) -> web.Response:
    job = job_of(request)
    await no_body(request)
    if job.schedule is None:
        raise bad("Only scheduled jobs can be paused")
    job.paused = paused
    return _changed(request, job)


def _changed(request: web.Request, job: SandboxJob) -> web.Response:
    core = core_of(request)
    job.updated = now_text()
    core.save()
    request.app[JOBS].scheduled(job)
    return web.json_response(views.job(core, job))


# -- runs -----------------------------------------------------------------------------------


async def list_job_runs(request: web.Request) -> web.Response:
    core, job = core_of(request), job_of(request)
    found = [r for r in visible_runs(core, account_of(request)) if r.job_id == job.id]
    return web.json_response([views.run(core, r) for r in found])


async def run_now(request: web.Request) -> web.Response:
    core, job = core_of(request), job_of(request)
    await no_body(request)
    run = request.app[JOBS].launch(job)
    return web.json_response(views.run(core, run))


async def list_runs(request: web.Request) -> web.Response:
    core = core_of(request)
    found = visible_runs(core, account_of(request))
    for run in found:
        core.timing.read(run.id)
    return web.json_response([views.run(core, r) for r in found])


async def get_run(request: web.Request) -> web.Response:
    core, run = core_of(request), run_of(request)
    core.timing.read(run.id)
    return web.json_response(views.run(core, run))


async def run_logs(request: web.Request) -> web.Response:
    return web.json_response({"job": read_log(request.app[JOBS].log_file(run_of(request)))})


async def stop_run(request: web.Request) -> web.Response:
    core, run = core_of(request), run_of(request)
    await no_body(request)
    if run.active:
        await request.app[JOBS].stop_run(run.id)
    return web.json_response(views.run(core, run))


async def delete_run(request: web.Request) -> web.Response:
    run = run_of(request)
    await no_body(request)
    await request.app[JOBS].remove_run(run)
    return done()
