"""Projects, their revisions, archives, activity and collaborators."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

from aiohttp import BodyPartReader, web

from mlflow_ae5_deploy.sandbox.api import views
from mlflow_ae5_deploy.sandbox.api.access import (
    project_of,
    put_collaborators,
    visible_deployments,
    visible_jobs,
    visible_projects,
    visible_runs,
)
from mlflow_ae5_deploy.sandbox.api.profiles import EDITORS, check_profile
from mlflow_ae5_deploy.sandbox.api.requests import account_of, core_of, done, json_fields, no_body, queries
from mlflow_ae5_deploy.sandbox.archives import PROJECT_FILE, pack, unpack
from mlflow_ae5_deploy.sandbox.core import SandboxCore
from mlflow_ae5_deploy.sandbox.errors import ApiError, bad, not_found
from mlflow_ae5_deploy.sandbox.models import SandboxAccount, SandboxProject, SandboxRevision, new_hex, now_text
from mlflow_ae5_deploy.sandbox.project_file import read_project_file

API = "/api/v2"
MAX_UPLOAD_BYTES = 1 << 30
DEFAULT_REVISION = "0.0.1"


def routes() -> list[web.RouteDef]:
    one = f"{API}/projects/{{id}}"
    return [
        web.get(f"{API}/projects", list_projects),
        web.post(f"{API}/projects", create_from_url),
        web.post(f"{API}/projects/upload", upload),
        web.patch(one, patch),
        web.delete(one, delete),
        web.get(f"{one}/activity", activity),
        web.get(f"{one}/collaborators", list_collaborators),
        web.put(f"{one}/collaborators", share),
        web.get(f"{one}/revisions", list_revisions),
        web.get(f"{one}/revisions/{{revision}}/archive", archive),
        web.get(f"{one}/deployments", list_deployments),
        web.get(f"{one}/jobs", list_jobs),
        web.get(f"{one}/runs", list_runs),
        web.get(f"{one}/sessions", list_sessions),
        web.post(f"{one}/sessions", start_session),
    ]


async def list_projects(request: web.Request) -> web.Response:
    core, account = core_of(request), account_of(request)
    return web.json_response([views.project(core, p, account) for p in visible_projects(core, account)])


async def create_from_url(_: web.Request) -> web.Response:
    raise ApiError(501, "Sandbox: creating a project from a URL is not supported; upload an archive")


# -- upload ---------------------------------------------------------------------------------


async def upload(request: web.Request) -> web.Response:
    core, account = core_of(request), account_of(request)
    if request.content_type != "multipart/form-data":
        raise bad(f"Expected multipart/form-data, not {request.content_type}")
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, dir=core.folder("work")))
    try:
        fields = await _receive(request, folder / "upload")
        name, tag = fields["name"], fields.get("tag") or DEFAULT_REVISION
        _check_name(core, account, name)
        await asyncio.to_thread(unpack, folder / "upload", folder / "project")
        commands = (await asyncio.to_thread(read_project_file, folder / "project" / PROJECT_FILE)).commands
        # Another upload may have taken the name while this one was unpacked.
        _check_name(core, account, name)
        now = now_text()
        revision = SandboxRevision(tag, list(commands), now, now)
        project = SandboxProject(f"a0-{new_hex()}", name, account.username, now, now, revisions=[revision])
        project.note("create_action", account.username, "Project created", f"Project {name} uploaded")
        await asyncio.to_thread(pack, folder / "project", core.archive(project, tag), f"{project.owner}-{project.hex}")
        core.state.projects[project.id] = project
        core.timing.born(project.id, core.settings)
        core.save()
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    record = views.project(core, project, account)
    return web.json_response(record | {"action": views.activity(core, project, project.activity[0])})


async def _receive(request: web.Request, target: Path) -> dict[str, str]:
    """The text fields of an upload; its file goes to `target`.

    Raises ApiError for anything but name, tag and project_file.
    """
    fields: dict[str, str] = {}
    reader = await request.multipart()
    while (part := await reader.next()) is not None:
        if not isinstance(part, BodyPartReader) or part.name not in ("name", "tag", "project_file"):
            raise bad(f"Sandbox: unknown part {getattr(part, 'name', None)}")
        if part.name in fields:
            raise bad(f"Sandbox: part {part.name} given twice")
        if part.name == "project_file":
            fields[part.name] = part.filename or ""
            await _store(part, target)
        else:
            fields[part.name] = (await part.read(decode=True)).decode("utf-8")
    for name in ("name", "project_file"):
        if name not in fields:
            raise bad(f"Missing part {name}")
    return fields


async def _store(part: BodyPartReader, target: Path) -> None:
    size = 0
    with target.open("wb") as file:
        while chunk := await part.read_chunk(1 << 18):
            size += len(chunk)
            if size > MAX_UPLOAD_BYTES:
                raise ApiError(413, "The project archive is larger than 1 GB")
            await asyncio.to_thread(file.write, chunk)


def _check_name(core: SandboxCore, account: SandboxAccount, name: str) -> None:
    if not name.strip() or len(name) > 255 or "/" in name or any(ord(c) < 32 for c in name):
        raise bad("Project name is not valid")
    if any(p.name == name and p.owner == account.username for p in core.state.projects.values()):
        raise bad("Project name is not unique")


# -- one project ----------------------------------------------------------------------------


async def patch(request: web.Request) -> web.Response:
    core, account = core_of(request), account_of(request)
    project = project_of(request, "rw")
    fields = await json_fields(request, None, {"name": str, "editor": str, "resource_profile": str})
    if "editor" in fields and fields["editor"] not in {e["id"] for e in EDITORS}:
        raise bad(f"Unknown editor {fields['editor']}")
    check_profile(fields.get("resource_profile", project.resource_profile))
    if fields.get("name", project.name) != project.name:
        _check_name(core, account, fields["name"])
        project.name = fields["name"]
    project.editor = fields.get("editor", project.editor)
    project.resource_profile = fields.get("resource_profile", project.resource_profile)
    project.updated = now_text()
    core.save()
    return web.json_response(views.project(core, project, account))


async def delete(request: web.Request) -> web.Response:
    """Delete a project with its idle jobs and claims; refused while something runs."""
    core = core_of(request)
    project = project_of(request, "owner")
    await no_body(request)
    running = [d.name for d in core.state.deployments.values() if d.project_id == project.id]
    if running:
        raise bad(f"Project has running deployments: {', '.join(running)}")
    if any(r.active and r.project_id == project.id for r in core.state.runs.values()):
        raise bad("Project has active runs")
    state = core.state
    state.jobs = {i: j for i, j in state.jobs.items() if j.project_id != project.id}
    state.runs = {i: r for i, r in state.runs.items() if r.project_id != project.id}
    state.claims = {label: owner for label, owner in state.claims.items() if owner != project.id}
    del state.projects[project.id]
    core.save()
    await asyncio.to_thread(shutil.rmtree, core.folder("archives", project.hex), ignore_errors=True)
    return done()


@queries("sort", "page[size]")
async def activity(request: web.Request) -> web.Response:
    core = core_of(request)
    project = project_of(request)
    if request.query.get("sort", "-updated") != "-updated":
        raise bad("Sandbox: supports only sort=-updated")
    try:
        size = int(request.query.get("page[size]", "10"))
    except ValueError as error:
        raise bad("page[size] must be a number") from error
    core.timing.read(project.id)
    entries = [views.activity(core, project, e) for e in reversed(project.activity)]
    return web.json_response({"data": entries[:size]})


async def list_collaborators(request: web.Request) -> web.Response:
    return web.json_response(views.collaborators(core_of(request), project_of(request).collaborators))


async def share(request: web.Request) -> web.Response:
    return await put_collaborators(request, project_of(request, "owner"), ("r", "rw"))


async def list_revisions(request: web.Request) -> web.Response:
    project = project_of(request)
    return web.json_response([views.revision(project, r) for r in reversed(project.revisions)])


async def archive(request: web.Request) -> web.StreamResponse:
    core = core_of(request)
    project = project_of(request)
    revision = project.revision(request.match_info["revision"])
    if revision is None:
        raise not_found("Revision")
    return web.FileResponse(core.archive(project, revision.name), headers={"Content-Type": "application/gzip"})


# -- what belongs to a project --------------------------------------------------------------


async def list_deployments(request: web.Request) -> web.Response:
    core, project = core_of(request), project_of(request)
    found = [d for d in visible_deployments(core, account_of(request)) if d.project_id == project.id]
    return web.json_response([views.deployment(core, d) for d in found])


async def list_jobs(request: web.Request) -> web.Response:
    core, project = core_of(request), project_of(request)
    found = [j for j in visible_jobs(core, account_of(request)) if j.project_id == project.id]
    return web.json_response([views.job(core, j) for j in found])


async def list_runs(request: web.Request) -> web.Response:
    core, project = core_of(request), project_of(request)
    found = [r for r in visible_runs(core, account_of(request)) if r.project_id == project.id]
    return web.json_response([views.run(core, r) for r in found])


async def list_sessions(request: web.Request) -> web.Response:
    project_of(request)
    return web.json_response([])


async def start_session(_: web.Request) -> web.Response:
    raise ApiError(501, "Sandbox: editor sessions are not supported")
