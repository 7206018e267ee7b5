"""A run of the collection job: what came of it, a rehearsal of it, and the records that runs leave behind."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mlflow_ae5_deploy.clock import Deadline, poll_until
from mlflow_ae5_deploy.errors import Conflict, PlatformError, ReleaseRefused
from mlflow_ae5_deploy.platform.records import Job, Project, Run
from mlflow_ae5_deploy.release.archive import read_project_archive
from mlflow_ae5_deploy.runbook.context import Context
from mlflow_ae5_deploy.runbook.files import write_private
from mlflow_ae5_deploy.runbook.follow import OnLine, follow_run
from mlflow_ae5_deploy.runbook.gc_job import WantedJob, shows_up
from mlflow_ae5_deploy.words import counted

DRY_RUN = "MLFLOW_TRACKING_GC_DRY_RUN"
KINDS = ("runs", "experiments", "logged_models")
_GOOD = ("done", "dry-run", "skipped")
_VISIBLE = 60.0  # seconds until a run that was just started must be listed
_STOPPED = 120.0  # seconds until a run that was told to stop must have ended


@dataclass(frozen=True)
class Verdict:
    """What came of one run.

    state:   the platform's word for how it ended.
    outcome: the job's own word, from the last JSON line of its log: done | dry-run | skipped | failed | interrupted;
             unknown where it left none (a release that does not report, or a run that was killed).
    facts:   that line. said: one sentence for a person.
    """

    run_id: str
    state: str
    outcome: str
    exit_code: int | None
    said: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return self.state == "completed" and self.outcome in (*_GOOD, "unknown") and self.exit_code in (0, None)


def judge(run: Run, log: str) -> Verdict:
    """Pure. A run counts as failed when either the platform or the job itself says so."""
    facts = last_report(log)
    outcome = str(facts.get("outcome") or "unknown")
    code = facts.get("exit_code")
    verdict = Verdict(run.id, run.state, outcome, code if isinstance(code, int) else None, "", facts)
    return replace(verdict, said=_sentence(verdict))


def last_report(log: str) -> dict[str, Any]:
    """The JSON object on the last line that is one; empty where there is none."""
    for line in reversed(log.splitlines()):
        text = line.strip()
        if not (text.startswith("{") and text.endswith("}")):
            continue
        try:
            found = json.loads(text)
        except ValueError:
            continue
        if isinstance(found, dict) and "outcome" in found:
            return found
    return {}


def _sentence(verdict: Verdict) -> str:
    facts = verdict.facts
    if not verdict.passed:
        words = [f"the run is {verdict.state}"]
        if verdict.outcome != "unknown":
            words.append(f"the job says {verdict.outcome}")
        if verdict.exit_code is not None:
            words.append(f"exit code {verdict.exit_code}")
        words += [str(facts[key]) for key in ("error", "hint") if facts.get(key)]
        return ", ".join(words)
    if verdict.outcome == "unknown":
        return "the run is completed, and its log states no result"
    if verdict.outcome == "skipped":
        return "skipped, because another collection was at work"
    counts = [(kind.replace("_", " "), facts[kind]) for kind in KINDS if isinstance(facts.get(kind), dict)]
    if verdict.outcome == "dry-run":
        return "would remove " + (", ".join(f"{item.get('due', 0)} {kind}" for kind, item in counts) or "nothing known")
    told = ", ".join(f"{item.get('removed', 0)} of {item.get('due', 0)} {kind}" for kind, item in counts)
    return f"removed {told}" if told else "done"


# runs ------------------------------------------------------------------------------------------------------------


def run_now(context: Context, job: Job, show: OnLine, *, seconds: float) -> Verdict:
    """Start a run of this job and follow it to its end."""
    run = context.platform.run_job(job.id)
    context.journal.write("effect", action="run", target=f"job {job.name}", id=run.id)
    return judge(*follow_run(context, run.id, show, seconds=seconds))


def cannot_rehearse(context: Context, project: Project, wanted: WantedJob) -> str | None:
    """Why this release's job must not be asked for a dry run: one that does not know the variable would collect."""
    if wanted.command not in {command.id for command in context.look.revisions(project)[0].commands}:
        return f"the release has no command `{wanted.command}`"
    archive = context.scratch / "stored-project.tar.gz"
    write_private(archive, context.look.archive(project))
    try:
        variables = read_project_archive(archive, called=f"project {project.name}").variables
    except ReleaseRefused as error:
        return f"the stored release cannot be read ({error.what.rstrip('.')})"
    return None if DRY_RUN in variables else f"the release does not know {DRY_RUN}"


def rehearse(context: Context, project: Project, wanted: WantedJob, show: OnLine, *, seconds: float) -> Verdict:
    """Run the job's dry run once, as a job of its own that is taken away again. The schedule is not touched.

    Proves that the job starts, reaches server and database with what is stored for it, and has something to say.
    Ask `cannot_rehearse` first.
    """
    return judge(
        *run_once(
            context,
            project,
            replace(wanted, name=f"{wanted.name} dry run", variables=(*wanted.variables, (DRY_RUN, "true"))),
            show,
            seconds=seconds,
        )
    )


def run_once(context: Context, project: Project, wanted: WantedJob, show: OnLine, *, seconds: float) -> tuple[Run, str]:
    """Run a command of the project once, as a job that is taken away again: the ended run and its whole log.

    The job's name must be for this purpose alone: whatever has it is removed, before and after. wanted.schedule does
    not matter. Raises what follow_run raises.
    """
    name = wanted.name
    _clear(context, project, name)  # what one that was cut off has left
    job = _create_once(context, project, wanted)
    context.journal.write("effect", action="create", target=f"job {name}", id=job.id)
    runs: list[Run] = []
    try:
        runs = poll_until(
            lambda: context.platform.runs(job.id) or None,
            waiting_for=f"the run of {name} to be listed",
            deadline=Deadline(context.clock, _VISIBLE),
            on_wait=context.on_wait,
        )
        ended = follow_run(context, runs[0].id, show, seconds=seconds)
    except BaseException:
        with contextlib.suppress(PlatformError):  # the first trouble is the one to tell; the next one cleans up
            _clear(context, project, name, job, runs)
        raise
    _clear(context, project, name, job, [ended[0]])
    return ended


def _create_once(context: Context, project: Project, wanted: WantedJob) -> Job:
    def create() -> Job:
        return context.platform.create_job(
            project=project,
            revision=context.look.revisions(project)[0],
            revision_name="latest",
            name=wanted.name,
            command=wanted.command,
            schedule=None,
            variables=wanted.revealed(),
            resource_profile=wanted.resource_profile,
            run=True,
        )

    try:
        return create()
    except Conflict as error:
        clash = error
    if shows_up(wanted.name, project, context) is None:
        raise clash
    _clear(context, project, wanted.name)  # made by a run that was cut off a moment ago, and not listed until now
    return create()


def _clear(
    context: Context, project: Project, name: str, known: Job | None = None, known_runs: Sequence[Run] = ()
) -> None:
    """Take this run-once job away, with its runs, those at work too. What is known need not be listed yet."""
    jobs = {job.id: job for job in context.platform.jobs() if job.name == name and job.project_id == project.id}
    if known is not None:
        jobs[known.id] = known
    for job in jobs.values():
        stop(context, [*context.platform.runs(job.id), *(known_runs if job is known else ())])
        context.platform.delete_job(job.id)
        context.journal.write("effect", action="delete", target=f"job {name}", id=job.id)
    listed = [run for run in context.platform.runs() if run.name == name and run.owner == context.account]
    for run in {run.id: run for run in (*known_runs, *listed)}.values():
        stop(context, [run])
        context.platform.delete_run(run.id)
    context.look.forget("jobs")


def stop(context: Context, runs: Iterable[Run]) -> None:
    """Stop those at work, and see them end."""

    def over(run_id: str) -> bool | None:
        now = context.platform.run(run_id)
        return True if now is None or not now.is_active else None

    for run in [r for r in runs if r.is_active]:
        context.platform.stop_run(run.id)
        poll_until(
            lambda run=run: over(run.id),  # type: ignore[misc]
            waiting_for=f"the run of {run.name} to stop",
            deadline=Deadline(context.clock, _STOPPED),
            on_wait=context.on_wait,
        )
        context.journal.write("effect", action="stop", target=f"run of {run.name}", id=run.id)


def surplus(runs: Iterable[Run], keep: int) -> list[Run]:
    """Pure: the ended runs behind the newest `keep`. One whose age is not known counts as new."""
    ended = [run for run in runs if not run.is_active and run.created is not None]
    ended.sort(key=lambda run: (run.created, run.id), reverse=True)
    return ended[keep:]


def prune(context: Context, name: str, *, keep: int) -> int:
    """Delete the records of all but the newest `keep` ended runs of the job called `name`. Returns how many."""
    ours = [run for run in context.platform.runs() if run.name == name and run.owner == context.account]
    old = surplus(ours, keep)
    for number, run in enumerate(old, 1):
        context.platform.delete_run(run.id)
        if context.on_wait is not None and number % 10 == 0:
            context.on_wait(f"{counted(len(old) - number, 'old run records')} to be deleted", 0.0)
    if old:
        context.journal.write("effect", action="delete", target=f"{counted(len(old), 'old run records')} of job {name}")
    return len(old)
