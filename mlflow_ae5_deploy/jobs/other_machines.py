"""What the platform shows of an operation that another machine has begun and not ended.

A job or project that this machine has made is in its journal: what is there and is not in the journal is somebody
else's. The lock of an installation does not reach beyond this machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mlflow_ae5_deploy.ae5.models import Deployment, Job, Project, Run
from mlflow_ae5_deploy.common.errors import Locked
from mlflow_ae5_deploy.engine.context import Context

ONCE = "mlflow-ae5-deploy "  # how the names of jobs begin that run a command of the project once
REHEARSAL = ".rehearsal"  # how the name ends of the project beside, with the new release
_UP_AND_DOWN = ("start", "stop", "restart", "roll back", "upload", "delete")
_REMEDY = "Nothing was changed. Ask who else administers this installation, and wait for the end of theirs."


def refuse_meanwhile(context: Context, project: Project, name: str = "") -> None:
    """Raises Locked while a job of another machine's operation is at work. name: only a job of that name counts."""
    found = [message for job, message in _at_work(context, project) if name in ("", job.name)]
    if found:
        raise Locked(
            f"Another machine works on this installation: {'; '.join(found)}.",
            where=f"project {project.name}",
            remedy=_REMEDY,
        )


def refuse_unfinished(context: Context, project: Project, deployments: Sequence[Deployment]) -> None:
    """Raises Locked where an operation of another machine has not ended: at work, cut off or between two steps."""
    found = [message for _, message in _at_work(context, project)]
    found += [f"its job `{job.name}` is there" for job in _jobs(context, project) if not _runs_at_work(context, job)]
    side = context.cached.project(project.name + REHEARSAL)
    if side is not None and not _ours(context, "project", side.name):
        found.append(f"project `{side.name}` is there, in which an upgrade is rehearsed")
    if not _pending(context) and not _left_down(context):
        starting = [item for item in deployments if item.is_starting and not _knows(context, item.id)]
        found += [f"deployment `{item.name}` ({item.id}) is being started" for item in starting]
        if not deployments:
            found.append(
                "no server runs, and it was not stopped from here: an upgrade, a restore or a restart may do that"
            )
    if found:
        raise Locked(
            f"An operation of another machine seems unfinished: {'; '.join(found)}.",
            where=f"project {project.name}",
            remedy=f"{_REMEDY} Where nobody will finish it, add --force.",
        )


def _at_work(context: Context, project: Project) -> Iterator[tuple[Job, str]]:
    for job in _jobs(context, project):
        for run in _runs_at_work(context, job):
            since = f" since {run.created:%Y-%m-%d %H:%M} UTC" if run.created else ""
            yield job, f"its job `{job.name}` has been running{since} (run {run.id})"


def _runs_at_work(context: Context, job: Job) -> list[Run]:
    return [run for run in context.platform.runs(job.id) if run.is_active]


def _jobs(context: Context, project: Project) -> list[Job]:
    """Those that run once, and that this machine has not made."""
    names = (ONCE, f"{context.settings.gc.name} dry run")
    return [
        job
        for job in context.platform.jobs()
        if job.project_id == project.id
        and job.schedule is None
        and job.name.startswith(names)
        and not _ours(context, "job", job.name)
    ]


def _pending(context: Context) -> bool:
    state = context.state
    return bool(state.upgrade or state.restart or state.restore)


def _ours(context: Context, resource: str, name: str) -> bool:
    """The last thing that this machine has done to it, or begun to do, was not to delete it."""
    last = _last(context, lambda line: (line.get("resource"), line.get("name")) == (resource, name))
    return last is not None and (last["event"], last.get("action")) != ("effect", "delete")


def _left_down(context: Context) -> bool:
    """The last thing that this machine has done to the server, or begun to do, was not to start one."""
    name = context.settings.project.name

    def about_it(line: dict[str, Any]) -> bool:
        resource, ours = line.get("resource"), line.get("name") == name
        return line.get("action") in _UP_AND_DOWN and (resource == "deployment" or (resource == "project" and ours))

    last = _last(context, about_it)
    return last is not None and (last["event"], last.get("action")) != ("effect", "start")


def _knows(context: Context, identity: str) -> bool:
    return _last(context, lambda line: line.get("id") == identity) is not None


def _last(context: Context, desired: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
    """The last line of the journal about an effect that is wanted, or the intent of one that may have come to it."""
    try:
        lines = context.journal.path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    refused = False  # or done: what was meant then is an effect, or was not even begun
    for text in reversed(lines):
        try:
            line = json.loads(text)
        except ValueError:
            continue  # cut off by a full disk or a crash
        if not isinstance(line, dict):
            continue
        event = line.get("event")
        if event in ("begin", "end"):
            refused = event == "end" and line.get("outcome") in ("done", Locked.__name__)
        elif (event == "effect" or (event == "intent" and not refused)) and desired(line):
            return line
    return None
