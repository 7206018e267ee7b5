"""Operations of other machines that have not ended, as far as the platform shows them.

A job outlives the lease of a run that was killed. Jobs and projects that this machine created are in its journal; all
others are another machine's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from mlflow_ae5_deploy.ae5.models import Deployment, Job, Project, Run
from mlflow_ae5_deploy.common.errors import Locked
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.journal import JournalEntry, backwards

ONCE = "mlflow-ae5-deploy "  # start of the names of one-off jobs
REHEARSAL = ".rehearsal"  # end of the name of the project in which an upgrade is rehearsed
_UP_AND_DOWN = ("start", "stop", "restart", "roll back", "upload", "delete")
_REMEDY = "Nothing was changed. Ask who else administers this installation, and wait until they have finished."


def refuse_meanwhile(context: Context, project: Project, name: str = "") -> None:
    """Raise Locked while a job of another machine runs. name: only this one counts."""
    running = [message for job, message in _running(context, project) if name in ("", job.name)]
    if running:
        raise Locked(
            f"Another machine works on this installation: {'; '.join(running)}.",
            where=f"project {project.name}",
            remedy=_REMEDY,
        )


def refuse_unfinished(context: Context, project: Project, deployments: Sequence[Deployment]) -> None:
    """Raise Locked where an operation of another machine runs or was interrupted."""
    signs = [message for _, message in _running(context, project)]
    signs += [f"its job `{job.name}` exists" for job in _jobs(context, project) if not _active_runs(context, job)]
    side = context.cached.project(project.name + REHEARSAL)
    if side is not None and not _ours(context, "project", side.name):
        signs.append(f"project `{side.name}` exists, in which an upgrade is rehearsed")
    if not _pending(context) and not _left_down(context):
        starting = [item for item in deployments if item.is_starting and not _knows(context, item.id)]
        signs += [f"deployment `{item.name}` ({item.id}) is being started" for item in starting]
        if not deployments:
            signs.append(
                "no server runs, and this machine did not stop it; an upgrade, restore or restart may be running"
            )
    if signs:
        raise Locked(
            f"An operation of another machine seems unfinished: {'; '.join(signs)}.",
            where=f"project {project.name}",
            remedy=f"{_REMEDY} If nobody will finish it, add --force.",
        )


def _running(context: Context, project: Project) -> Iterator[tuple[Job, str]]:
    for job in _jobs(context, project):
        for run in _active_runs(context, job):
            since = f" since {run.created:%Y-%m-%d %H:%M} UTC" if run.created else ""
            yield job, f"its job `{job.name}` has been running{since} (run {run.id})"


def _active_runs(context: Context, job: Job) -> list[Run]:
    return [run for run in context.platform.runs(job.id) if run.is_active]


def _jobs(context: Context, project: Project) -> list[Job]:
    """One-off jobs that this machine did not create."""
    return [
        job
        for job in context.platform.jobs()
        if job.project_id == project.id
        and job.schedule is None
        and job.name.startswith(ONCE)
        and not _ours(context, "job", job.name)
    ]


def _pending(context: Context) -> bool:
    state = context.state
    return bool(state.upgrade or state.restart or state.restore)


def _ours(context: Context, resource: str, name: str) -> bool:
    """Whether this machine created it, and did not delete it since."""
    last = _last(context, lambda entry: (entry.resource, entry.name) == (resource, name))
    return last is not None and (last.event, last.action) != ("effect", "delete")


def _left_down(context: Context) -> bool:
    """Whether this machine stopped the server, and did not start it since."""
    name = context.settings.project.name

    def about_it(entry: JournalEntry) -> bool:
        ours = entry.resource == "deployment" or (entry.resource == "project" and entry.name == name)
        return entry.action in _UP_AND_DOWN and ours

    last = _last(context, about_it)
    return last is not None and (last.event, last.action) != ("effect", "start")


def _knows(context: Context, identity: str) -> bool:
    return _last(context, lambda entry: entry.id == identity) is not None


def _last(context: Context, matches: Callable[[JournalEntry], bool]) -> JournalEntry | None:
    """The last entry of the journal that matches: an effect, or an intent that may have become one."""
    refused = False  # or done: every intent of that run became an effect, or was not started
    for entry in backwards(context.journal.path):
        if entry.event in ("begin", "end"):
            refused = entry.event == "end" and entry.outcome in ("done", Locked.__name__)
        elif (entry.event == "effect" or (entry.event == "intent" and not refused)) and matches(entry):
            return entry
    return None
