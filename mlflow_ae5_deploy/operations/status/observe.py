"""Observe an installation for `status` and `doctor`.

One request after another over one session: it must not be shared by threads, because a lost login is renewed in the
middle of a call. On the sandbox all of it takes a fraction of a second.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime

from mlflow_ae5_deploy.ae5.models import Deployment, Job, Project, Run
from mlflow_ae5_deploy.common.clock import Deadline
from mlflow_ae5_deploy.common.cron import parse_cron
from mlflow_ae5_deploy.common.errors import Configuration, PlatformError
from mlflow_ae5_deploy.common.mlflow_api import Health
from mlflow_ae5_deploy.common.redaction import Secret
from mlflow_ae5_deploy.common.variable_names import DATABASE, TOKEN
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.journal import backwards
from mlflow_ae5_deploy.engine.lease import PREFIX, interrupted_remedy, interrupted_words, scope_of, work_of_others
from mlflow_ae5_deploy.engine.lock import holder_of, nonces_of
from mlflow_ae5_deploy.jobs.contract import UNKNOWN
from mlflow_ae5_deploy.jobs.reports import GcReport
from mlflow_ae5_deploy.jobs.result import read_result
from mlflow_ae5_deploy.operations import history
from mlflow_ae5_deploy.operations.missed import missed
from mlflow_ae5_deploy.operations.status.backups import observe_backups
from mlflow_ae5_deploy.operations.status.state import (
    GcStatus,
    InstallationState,
    LastRun,
    TokenStatus,
    UnfinishedOperation,
)
from mlflow_ae5_deploy.release.provenance import build_record_of
from mlflow_ae5_deploy.resources import encryption_keys, scheduled_job
from mlflow_ae5_deploy.resources.current_deployment import match_deployment
from mlflow_ae5_deploy.resources.health import PATIENCE, health_once
from mlflow_ae5_deploy.resources.interrupted import interrupted_restore, interrupted_upgrade
from mlflow_ae5_deploy.resources.job_specs import gc_job
from mlflow_ae5_deploy.resources.token import lost_files, recipients, rewritten_files, stored_tokens, used_by_job

_VERSION = re.compile(r"\s*([0-9]+\.[0-9]+[0-9A-Za-z.+\-]*)\s*\Z")


def observe(context: Context, token: Secret | None) -> InstallationState:
    """token: opens the endpoint where the login session does not; may be None."""
    context.state.reload()  # with --watch, another run may have written it
    project = context.cached.project(context.settings.project.name)
    chosen = match_deployment(context)
    current = chosen.current
    build, build_unknown = (
        build_record_of(context.cached.archive(project)) if project else (None, "there is no project")
    )
    health, version, version_unknown = _ask_server(context, current, token)
    sharing = context.settings.sharing
    upgrade, interrupted = context.state.upgrade, interrupted_upgrade(context.state)
    return InstallationState(
        project=project,
        deployment=current,
        duplicates=chosen.duplicates,
        rival=chosen.rival,
        health=health,
        newest_revision=context.cached.revisions(project)[0].name if project else "",
        build=build,
        build_unknown=build_unknown,
        version=version,
        version_unknown=version_unknown,
        token=_token(context),
        gc=_gc(context, project),
        secrets=frozenset(context.cached.secret_names()),
        desired_secrets=_desired_secrets(context),
        new_secrets=_new_secrets(context),
        shared=tuple(sorted((c.type, c.id) for c in context.cached.collaborators(current.id))) if current else (),
        desired_shared=tuple(
            sorted([*(("group", name) for name in sharing.groups), *(("user", name) for name in sharing.users)])
        ),
        backups=observe_backups(context, project),
        interrupted_upgrade=upgrade.release if upgrade else "",
        upgrade_ways_out=interrupted.ways_out if interrupted else "",
        rollback_failed=upgrade.failure if upgrade else "",
        interrupted_restore=interrupted_restore(context, project),
        unfinished=_unfinished(context, current),
        account_exists=not context.access.account_missing,
    )


def _unfinished(context: Context, current: Deployment | None) -> UnfinishedOperation:
    found = _by_locks(context)
    pending, rotation = context.state.restart, context.state.rotation
    since = pending.since if pending and (current is None or current.id != pending.deployment_id) else None
    found = replace(found, restart_since=since, install_since=history.interrupted_install(context.journal.path))
    if rotation is None or current is None or rotation.deployment_id != current.id:
        return found
    left = tuple(name for name in recipients(context) if name in rotation.remaining)
    return replace(found, accounts_remaining=left, gc_untested=not rotation.gc_tested)


def _by_locks(context: Context) -> UnfinishedOperation:
    """Of all machines, by the names of secrets; these are listed anyway."""
    here, names = holder_of(context.folders.state), context.cached.secret_names()
    found = UnfinishedOperation() if here is None else UnfinishedOperation(running=here.text, verb=here.verb)
    if not any(name.startswith(PREFIX) for name in names):
        return found
    now = context.platform.session.dated.stated
    own = nonces_of(context.folders.state)
    running, interrupted = work_of_others(names, scope_of(context.settings.project.name), now, own)
    if running is not None and here is None:
        ends = f"its lock ends at {running.expires:%Y-%m-%d %H:%M} UTC unless that run renews it"
        found = replace(found, running=f"{running.text}; {ends}", verb=running.verb)
    if interrupted is None:
        return found
    return replace(
        found,
        interrupted=interrupted_words(interrupted),
        interrupted_verb=interrupted.verb,
        interrupted_remedy=interrupted_remedy(interrupted, context.state.pending_operation),
    )


def _desired_secrets(context: Context) -> tuple[str, ...]:
    of_clients = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", TOKEN)
    return tuple(dict.fromkeys((*context.settings.server_secrets, *encryption_keys.NAMES, *of_clients)))


def _new_secrets(context: Context) -> tuple[str, ...]:
    """Settings that were added since the install of this machine.

    Without a record of the database's secret there was none. Keys are kept without a record where another machine set
    them, so an absent one may be lost; URIs and token belong to every installation.
    """
    recorded = context.state.secrets.get(context.account, {})
    if DATABASE not in recorded:
        return ()
    others = {*recorded, *context.cached.secret_names(), *encryption_keys.NAMES, encryption_keys.VERSION}
    return tuple(name for name in context.settings.server_secrets if name not in others)


def _token(context: Context) -> TokenStatus:
    accounts = recipients(context)
    stored, previous, lost = stored_tokens(context), context.state.previous_tokens, lost_files(context)
    return TokenStatus(
        TOKEN in context.cached.secret_names(),
        tuple(stored[name] for name in accounts if name in stored),
        tuple(previous[name] for name in accounts if name in previous and name not in stored and name not in lost),
        tuple(rewritten_files(context)),
        lost,
    )


# the server -------------------------------------------------------------------------------------------------------


def _ask_server(
    context: Context, current: Deployment | None, token: Secret | None
) -> tuple[Health | None, str | None, str]:
    """(health, version, why the version is not known), as the signed-in owner, because that needs no token."""
    if current is not None and current.is_starting:
        return None, None, "the server has not started yet"
    if current is None or not current.is_started or not current.url:
        return None, None, "no server runs"
    deadline = Deadline(context.clock, PATIENCE)

    def patience() -> float:
        return max(1.0, deadline.remaining())

    health = health_once(context, current.url)
    if health.status == "unauthorised" and token is not None:
        server = context.server(current.url, token)
        try:
            health = context.outputs.health[current.url] = server.health(timeout=patience())
            answer = server.call("GET", "version", timeout=patience())
        finally:
            server.close()
        return health, *read_version(answer.status, answer.body.decode("utf-8", "replace"), answer.message)
    if not health.answered:  # the next call would wait as long
        return health, None, health.message
    try:
        page = context.platform.session.browse(f"{current.url.rstrip('/')}/version", timeout=patience())
    except PlatformError as error:
        return health, None, error.what
    return health, *read_version(page.status, page.text, f"{page.status} at {page.url}")


def read_version(status: int, text: str, message: str) -> tuple[str | None, str]:
    """(version, why it is not known). A login page also answers 200."""
    match = _VERSION.match(text) if status == 200 else None
    return (match[1], "") if match else (None, f"/version returned no version: {message}")


# garbage collection -----------------------------------------------------------------------------------------------


def _gc(context: Context, project: Project | None) -> GcStatus:
    desired = gc_job(context.settings)
    jobs = scheduled_job.jobs_for(context.cached.jobs(), project, desired)
    if not jobs:
        return GcStatus(jobs=0)
    job = min(jobs, key=lambda j: (j.name != desired.name, j.id))
    runs = in_order(context.platform.runs(job.id))
    ended, active = [run for run in runs if not run.is_active], [run for run in runs if run.is_active]
    paused, now = scheduled_job.is_paused(job), context.clock.now()
    words, following = _in_words(job, now)

    def last_in_journal(action: str) -> datetime | None:
        effect = ("effect", action, "job", job.name)
        entries = backwards(context.journal.path)
        return next((one.time for one in entries if (one.event, one.action, one.resource, one.name) == effect), None)

    return GcStatus(
        jobs=len(jobs),
        name=job.name,
        schedule=job.schedule or "",
        words=words,
        paused=paused,
        next=None if paused else following,
        last=_last_run(context, ended[-1]) if ended else None,
        running=LastRun(active[-1].id, active[-1].state, active[-1].created, "", None, "") if active else None,
        # What was due while the job was paused was not missed.
        missed=missed("garbage collection", job, runs, now, done=[last_in_journal("resume")]),
        started_here=None if runs else last_in_journal("run"),
        renewed=_renewed(context),
    )


def _renewed(context: Context) -> datetime | None:
    own, current = context.state.tokens.get(context.account), match_deployment(context).current
    stored = own.stored if own and current and own.deployment_id == current.id else None
    return max((when for when in (stored, context.state.gc_tested) if when), default=None)


def in_order(runs: list[Run]) -> list[Run]:
    """Oldest first. The platform's order is not documented; it is kept where times are missing."""
    if all(run.created is not None for run in runs):
        return sorted(runs, key=lambda run: run.age_key)
    return runs


def _in_words(job: Job, now: datetime) -> tuple[str, datetime | None]:
    """(the schedule in words, when the next run is due)."""
    try:
        schedule = parse_cron(job.schedule or "")
    except Configuration:
        return "on a schedule that this tool cannot read", None
    return schedule.phrase, schedule.next_times(now, 1)[0]


def _last_run(context: Context, run: Run) -> LastRun:
    try:
        ended = read_result(GcReport, run, context.platform.run_log(run.id))
    except PlatformError as error:
        passed = None if run.state == "completed" else False
        return LastRun(run.id, run.state, run.created, UNKNOWN, passed, f"its log cannot be read: {error.what}")
    own_token = used_by_job(context, ended.report.token_sha256, run.created)
    return LastRun(run.id, run.state, run.created, ended.outcome, ended.passed, ended.message, own_token)
