"""What `status` sees: records of what was observed, and nothing that was not.

Everything is read over one session, one request after another. That session must not be shared by threads (a lost
login is renewed in the middle of a call), and on the sandbox the whole look takes a fraction of a second.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime

from mlflow_ae5_deploy.ae5.models import Deployment, Job, Project, Run
from mlflow_ae5_deploy.common.cron import parse_cron
from mlflow_ae5_deploy.common.errors import Configuration, PlatformError
from mlflow_ae5_deploy.common.mlflow_api import PROBE, Health, judge
from mlflow_ae5_deploy.common.redaction import Secret
from mlflow_ae5_deploy.engine import job_result
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.lock import at_work
from mlflow_ae5_deploy.engine.state import StoredToken
from mlflow_ae5_deploy.jobs import gc
from mlflow_ae5_deploy.operations import history
from mlflow_ae5_deploy.operations.missed import Missed, missed
from mlflow_ae5_deploy.operations.restart import pending_restart
from mlflow_ae5_deploy.operations.status_backups import BackupStatus, look_at_backups
from mlflow_ae5_deploy.release.compare import BuildRecord, made_of
from mlflow_ae5_deploy.resources import gc_job, scheduled_job
from mlflow_ae5_deploy.resources.consumers import TOKEN, recipients
from mlflow_ae5_deploy.resources.current_deployment import chosen_of
from mlflow_ae5_deploy.resources.restore import InterruptedRestore, interrupted_restore

_VERSION = re.compile(r"\s*([0-9]+\.[0-9]+[0-9A-Za-z.+\-]*)\s*\Z")
NO_SCHEMA = (
    "unknown: no endpoint tells it. MLflow does not start on a schema of another version; "
    "`doctor --from-platform` reads it"
)


@dataclass(frozen=True)
class LastRun:
    """outcome: the job's own word, see job_run.Verdict; empty for one that still runs.

    passed: None for that one, and where the result is not known.
    """

    id: str
    state: str
    began: datetime | None
    outcome: str
    passed: bool | None
    message: str


@dataclass(frozen=True)
class GcStatus:
    """The garbage collection. jobs: how many there are. missed: a run should have begun and none did."""

    jobs: int
    name: str
    schedule: str
    words: str
    paused: bool
    next: datetime | None
    last: LastRun | None
    running: LastRun | None
    missed: Missed | None
    started_here: datetime | None = None  # a run that this machine's journal knows, where the platform has no record
    renewed: datetime | None = None
    """When the present token was stored, or the job last proved with it; a run that began before tells nothing now."""

    @property
    def outdated(self) -> bool:
        """The last run failed before the token was renewed."""
        last, renewed = self.last, self.renewed
        if last is None or last.passed is not False or last.began is None or renewed is None:
            return False
        return last.began < renewed


@dataclass(frozen=True)
class TokenStatus:
    """stored: one record for each account that was given a token from this machine. listed: the secret exists.

    previous: of those without, what they were given for a deployment that was then to be changed or taken down.
    """

    listed: bool
    stored: tuple[StoredToken, ...]
    previous: tuple[StoredToken, ...] = ()


@dataclass(frozen=True)
class UnfinishedOperation:
    """What an earlier run from this machine has not ended. restart: since when a restart is pending. left: accounts
    without the new token. unproved: the gc job was not proved with it. at_work: who is at it now, empty if nobody."""

    restart: datetime | None = None
    left: tuple[str, ...] = ()
    unproved: bool = False
    at_work: str = ""


@dataclass(frozen=True)
class Observed:
    """One look at an installation. None stands for what is not there, an empty text for what was not told.

    interrupted_upgrade: the release of an interrupted upgrade. rollback_failed: why it was rolled back, where that has
    begun. interrupted_restore: a restore was begun of which no end is known, and no server runs.
    health: None where there was nothing to ask. release_unknown, version_unknown: why it is not known.
    newest: name of the project's newest revision. wanted_secrets: names an install makes sure of. account: it exists.
    """

    project: Project | None
    deployment: Deployment | None
    duplicates: tuple[Deployment, ...]
    rival: Deployment | None
    health: Health | None
    newest: str
    made: BuildRecord | None
    release_unknown: str
    version: str | None
    version_unknown: str
    token: TokenStatus
    collection: GcStatus
    secrets: frozenset[str]
    desired_secrets: tuple[str, ...]
    shared: tuple[tuple[str, str], ...]
    desired_shared: tuple[tuple[str, str], ...]
    backups: BackupStatus = field(default_factory=BackupStatus)
    interrupted_upgrade: str = ""
    interrupted_restore: InterruptedRestore | None = None
    rollback_failed: str = ""
    unfinished: UnfinishedOperation = UnfinishedOperation()
    account: bool = True


def look_at(context: Context, token: Secret | None) -> Observed:
    """token: what opens the endpoint where the login session does not; may be None."""
    context.state.refresh()  # with --watch, another run may have gone on
    project = context.cached.project(context.settings.project.name)
    chosen = chosen_of(context)
    current = chosen.current
    made, why = made_of(context.cached.archive(project)) if project else (None, "there is no project")
    health, version, version_why = _ask_server(context, current, token)
    sharing = context.settings.sharing
    upgrade = context.state.pending_upgrade() or {}
    return Observed(
        project=project,
        deployment=current,
        duplicates=chosen.duplicates,
        rival=chosen.rival,
        health=health,
        newest=context.cached.revisions(project)[0].name if project else "",
        made=made,
        release_unknown=why,
        version=version,
        version_unknown=version_why,
        token=_token(context),
        collection=_collection(context, project),
        secrets=frozenset(context.cached.secret_names()),
        desired_secrets=desired_secrets(context),
        shared=tuple(sorted((c.type, c.id) for c in context.cached.collaborators(current.id))) if current else (),
        desired_shared=tuple(
            sorted([*(("group", name) for name in sharing.groups), *(("user", name) for name in sharing.users)])
        ),
        backups=look_at_backups(context, project),
        interrupted_upgrade=str(upgrade.get("desired") or ""),
        rollback_failed=str(upgrade.get("trouble") or ""),
        interrupted_restore=interrupted_restore(context, project),
        unfinished=_unfinished(context, current),
        account=not context.access.missing,
    )


def _unfinished(context: Context, current: Deployment | None) -> UnfinishedOperation:
    holder, pending, rotation = at_work(context.folder), pending_restart(context), context.state.unfinished_rotation()
    since = pending.since if pending and (current is None or current.id != pending.deployment_id) else None
    if rotation is None or current is None or rotation.deployment_id != current.id:
        return UnfinishedOperation(since, at_work=holder or "")
    left = tuple(name for name in recipients(context) if name in rotation.left)
    return UnfinishedOperation(since, left, not rotation.proved, holder or "")


def desired_secrets(context: Context) -> tuple[str, ...]:
    return (
        "MLFLOW_BACKEND_STORE_URI",
        "MLFLOW_ARTIFACTS_DESTINATION",
        "MLFLOW_DEFAULT_ARTIFACT_ROOT",
        "MLFLOW_TRACKING_GC_TTL",
        *sorted(context.settings.server.secrets),
        "MLFLOW_TRACKING_URI",
        "MLFLOW_REGISTRY_URI",
        TOKEN,
    )


# the server -------------------------------------------------------------------------------------------------------


def _ask_server(
    context: Context, current: Deployment | None, token: Secret | None
) -> tuple[Health | None, str | None, str]:
    """(health, version, why the version is not known), as the signed-in owner, because that needs no token."""
    if current is None or not current.is_started or not current.url:
        return None, None, "no server runs"
    health = health_of(context, current)
    if health.status == "unauthorised" and token is not None:
        server = context.server(current.url, token)
        try:
            health, answer = server.health(), server.call("GET", "version")
        finally:
            server.close()
        return health, *read_version(answer.status, answer.body.decode("utf-8", "replace"), answer.message)
    try:
        page = context.platform.session.browse(f"{current.url.rstrip('/')}/version")
    except PlatformError as error:
        return health, None, error.what
    return health, *read_version(page.status, page.text, f"{page.status} at {page.url}")


def health_of(context: Context, current: Deployment) -> Health:
    try:
        answer = context.platform.session.browse(f"{(current.url or '').rstrip('/')}/{PROBE}")
    except PlatformError as error:
        return Health("unhealthy", error.what)
    return judge(answer.status, answer.content_type, answer.text.encode(), f"{answer.status} at {answer.url}")


def read_version(status: int, text: str, message: str) -> tuple[str | None, str]:
    """(version, why it is not known). A login page also answers 200."""
    found = _VERSION.match(text) if status == 200 else None
    return (found[1], "") if found else (None, f"/version did not answer with a version: {message}")


def _token(context: Context) -> TokenStatus:
    desired = recipients(context)
    stored = {known.account: known for known in context.state.stored_tokens()}
    previous = {known.account: known for known in context.state.previous_tokens() if known.account not in stored}
    return TokenStatus(
        TOKEN in context.cached.secret_names(),
        tuple(stored[name] for name in desired if name in stored),
        tuple(previous[name] for name in desired if name in previous),
    )


# garbage collection -----------------------------------------------------------------------------------------------


def _collection(context: Context, project: Project | None) -> GcStatus:
    desired = gc_job.desired_job(context.settings)
    jobs = scheduled_job.jobs_for(context.cached.jobs(), project, desired)
    if not jobs:
        return GcStatus(0, "", "", "", False, None, None, None, None)
    job = min(jobs, key=lambda j: (j.name != desired.name, j.id))
    runs = in_order(context.platform.runs(job.id))
    ended = [run for run in runs if not run.is_active]
    active = [run for run in runs if run.is_active]
    paused, now = scheduled_job.is_paused(job), context.clock.now()
    words, following = _in_words(job, now)
    return GcStatus(
        jobs=len(jobs),
        name=job.name,
        schedule=job.schedule or "",
        words=words,
        paused=paused,
        next=None if paused else following,
        last=_last_run(context, ended[-1]) if ended else None,
        running=LastRun(active[-1].id, active[-1].state, active[-1].created, "", None, "") if active else None,
        missed=missed("garbage collection", job, runs, now, done=[_resumed(context, job)]),
        started_here=None if runs else _started_here(context, job),
        renewed=_renewed(context),
    )


def _renewed(context: Context) -> datetime | None:
    own, current = context.state.stored_token(context.account), chosen_of(context).current
    stored = own.stored if own and current and own.deployment_id == current.id else None
    return max((when for when in (stored, context.state.gc_proved()) if when), default=None)


def _started_here(context: Context, job: Job) -> datetime | None:
    """When `schedule-gc --run-now` last started a run of this job from this machine, as the journal has it."""
    return history.last_effect(context.journal.path, "run", "job", job.name)


def _resumed(context: Context, job: Job) -> datetime | None:
    """What was due while the job was paused was not missed."""
    return history.last_effect(context.journal.path, "resume", "job", job.name)


def in_order(runs: list[Run]) -> list[Run]:
    """Oldest first. The platform's order is not documented; where times are missing it is kept."""
    if all(run.created is not None for run in runs):
        return sorted(runs, key=lambda run: run.created.timestamp() if run.created else 0.0)
    return runs


def _in_words(job: Job, now: datetime) -> tuple[str, datetime | None]:
    try:
        schedule = parse_cron(job.schedule or "")
    except Configuration:
        return "a schedule this tool does not understand", None
    return schedule.words[:1].lower() + schedule.words[1:], schedule.next_times(now, 1)[0]


def _last_run(context: Context, run: Run) -> LastRun:
    try:
        ended = gc.judge(run, context.platform.run_log(run.id))
    except PlatformError as error:
        passed = None if run.state == "completed" else False
        return LastRun(run.id, run.state, run.created, job_result.UNKNOWN, passed, f"its log: {error.what}")
    return LastRun(run.id, run.state, run.created, ended.outcome, ended.judged, ended.message)
