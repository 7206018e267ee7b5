"""`status` on one screen, and as JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from mlflow_ae5_deploy.common.durations import duration
from mlflow_ae5_deploy.common.text import counted
from mlflow_ae5_deploy.operations import status_backups
from mlflow_ae5_deploy.operations.status import Status
from mlflow_ae5_deploy.operations.status_report import NO_SCHEMA, LastRun, Observed
from mlflow_ae5_deploy.render.console import Reporter
from mlflow_ae5_deploy.render.install import SCHEMA


def show(reporter: Reporter, status: Status) -> None:
    style = "bold green" if status.healthy else "bold red"
    reporter.hanging("", f"{_headline(status)}: project {status.project} of {status.account} on {status.host}", style)
    reporter.line()
    if status.installed:
        _details(reporter, status)
    for text in status.problems:
        reporter.hanging("  ! ", text, "red")
    for text in status.warnings:
        reporter.hanging("  warning: ", text, "yellow")


def _details(reporter: Reporter, status: Status) -> None:
    for title, text in rows(status):
        reporter.hanging(f"  {title:<11} ", text)
    for stage in status.drift:
        for change in stage.changes:
            would = f"stage {stage.number} ({stage.name}) would {change.phrase}, because {change.reason}"
            reporter.hanging("    differs   ", would, "yellow")
    if status.problems or status.warnings:
        reporter.line()


def _headline(status: Status) -> str:
    if not status.installed:
        return "not installed"
    return "healthy" if status.healthy else "not healthy"


def rows(status: Status) -> list[tuple[str, str]]:
    """(title, text) of every line that is always there."""
    seen, now = status.seen, status.observed
    current = seen.deployment
    return [
        ("Deployment", _deployment(seen, now)),
        ("URL", (current.url if current else None) or "none"),
        ("API", seen.health.message if seen.health else "not asked: no server runs"),
        ("Release", _release(seen)),
        ("MLflow", f"{seen.version or f'version unknown: {seen.version_unknown}'}"),
        ("Schema", NO_SCHEMA),
        ("Token", _token(seen, now)),
        ("Collection", _collection(seen, now)),
        ("Backup", status_backups.words(seen.backups, now)),
        ("Secrets", _secrets(seen)),
        ("Sharing", ", ".join(f"{kind} {name}" for kind, name in seen.shared) or "with nobody"),
        ("Drift", _drift(status)),
        ("Cost", f"{status.requests} requests, {status.seconds:.1f} s"),
    ]


def _deployment(seen: Observed, now: datetime) -> str:
    current = seen.deployment
    if current is None:
        return "none"
    since = f" since {_when(current.created, now)}" if current.created else ""
    visible = "public" if current.public else "private"
    return (
        f"{current.state}{since}, {current.name} ({current.id}), command {current.command}, "
        f"profile {current.resource_profile}, {visible}"
    )


def _release(seen: Observed) -> str:
    if seen.made is None:
        return f"unknown: {seen.release_unknown}"
    changes = counted(len(seen.made.changes), "changes")
    words = f"{seen.made.release.removeprefix('release ')}, {changes}, content {seen.made.content_digest[:12]}"
    if seen.made.edited:
        words += ", edited since"
    if seen.deployment is None:
        return f"{words}; revision {seen.newest}"
    runs = seen.deployment.revision
    return f"{words}; revision {runs}" + (f" ({seen.newest} is the newest)" if runs != seen.newest else "")


def _token(seen: Observed, now: datetime) -> str:
    if not seen.token.listed and not seen.token.stored:
        return "none stored"
    if not seen.token.stored and not seen.token.previous:
        return "stored from elsewhere; its age and deployment are not known here"
    told = []
    for known in seen.token.stored:
        end = f", ends {_when(known.expires, now)}" if known.expires else ""
        told.append(f"{known.account}: {_age(known.issued, now)} old, {_whose(seen, known.deployment_id)}{end}")
    for known in seen.token.previous:
        told.append(
            f"{known.account}: stored from here {_age(known.stored, now)} ago, for deployment {known.deployment_id}, "
            "before that was to be changed or taken down"
        )
    return "; ".join(told)


def _whose(seen: Observed, deployment_id: str) -> str:
    if seen.deployment is None:
        return "of a deployment that does not run"
    return "of this deployment" if deployment_id == seen.deployment.id else "on record, of an EARLIER deployment"


def _collection(seen: Observed, now: datetime) -> str:
    found = seen.collection
    if found.jobs == 0:
        return "no job"
    last = f"last {_run(found.last, now)}" if found.last else _no_run(found.started_here, now)
    running = f"; running since {_when(found.running.began, now)}" if found.running and found.running.began else ""
    following = "PAUSED" if found.paused else f"next {_when(found.next, now)}" if found.next else "next unknown"
    return f"{found.words} ({found.schedule} UTC); {last}{running}; {following}"


def _no_run(started_here: datetime | None, now: datetime) -> str:
    """Records are deleted, with the job and by hand, so that none is no proof that it never ran."""
    return "no run on record" + (f"; this machine started one {_when(started_here, now)}" if started_here else "")


def _run(run: LastRun, now: datetime) -> str:
    began = f"{_when(run.began, now)} " if run.began else ""
    return f"{began}{run.state}" + (f": {run.message}" if run.message else "")


def _secrets(seen: Observed) -> str:
    missing = [name for name in seen.desired_secrets if name not in seen.secrets]
    count = len(seen.desired_secrets)
    return (
        f"{count - len(missing)} of {count} present, missing: {', '.join(missing)}"
        if missing
        else f"all {count} present"
    )


def _drift(status: Status) -> str:
    unknown = ", ".join(stage.name for stage in status.not_compared)
    hidden = f"; not comparable from here: {unknown}" if unknown else ""
    if not status.drift:
        return f"none{hidden}"
    return f"{len(status.drift)} of {len(status.stages)} stages differ from the configuration{hidden}"


def _when(moment: datetime | None, now: datetime) -> str:
    if moment is None:
        return "an unknown time"
    away = moment - now
    near = f"in {duration(away)}" if away.total_seconds() > 0 else f"{duration(-away)} ago"
    return f"{moment:%Y-%m-%d %H:%M} UTC ({near})"


def _age(moment: datetime, now: datetime) -> str:
    return duration(max(now - moment, now - now))


# JSON -------------------------------------------------------------------------------------------------------------


def status_data(status: Status) -> dict[str, Any]:
    """Times are ISO 8601; null is what was not there or not told."""
    seen = status.seen
    current = seen.deployment
    return {
        "schema": SCHEMA,
        "verb": "status",
        "outcome": _headline(status).replace("not healthy", "unhealthy"),
        "observed": _iso(status.observed),
        "host": status.host,
        "account": status.account,
        "project": {"name": status.project, "id": seen.project.id if seen.project else None},
        "deployment": current
        and {
            "id": current.id,
            "name": current.name,
            "state": current.state,
            "status_text": current.status_text,
            "since": _iso(current.created),
            "url": current.url,
            "endpoint": current.endpoint,
            "command": current.command,
            "revision": current.revision,
            "newest_revision": seen.newest,
            "resource_profile": current.resource_profile,
            "public": current.public,
        },
        "api": {
            "status": seen.health.status if seen.health else "not asked",
            "message": seen.health.message if seen.health else "",
        },
        "release": _release_data(seen),
        "mlflow": {"version": seen.version, "unknown_because": seen.version_unknown or None},
        "database_schema": {"revision": None, "unknown_because": NO_SCHEMA.removeprefix("unknown: ")},
        "token": _token_data(status),
        "unfinished": {
            "restart_since": _iso(seen.unfinished.restart),
            "left": list(seen.unfinished.left),
            "gc_unproved": seen.unfinished.unproved,
            "at_work": seen.unfinished.at_work or None,
        },
        "collection": _collection_data(seen),
        "backup": status_backups.data(seen.backups),
        "secrets": {
            "present": [name for name in seen.desired_secrets if name in seen.secrets],
            "missing": [name for name in seen.desired_secrets if name not in seen.secrets],
        },
        "sharing": [{"type": kind, "id": name} for kind, name in seen.shared],
        "drift": [
            {"stage": stage.number, "name": stage.name, "changes": [change.data() for change in stage.changes]}
            for stage in status.drift
        ],
        "not_compared": [{"stage": s.number, "name": s.name, "message": s.message} for s in status.not_compared],
        "problems": list(status.problems),
        "warnings": list(status.warnings),
        "requests": status.requests,
        "seconds": round(status.seconds, 3),
    }


def _release_data(seen: Observed) -> dict[str, Any]:
    made = seen.made
    if made is None:
        return {"name": None, "unknown_because": seen.release_unknown}
    return {
        "name": made.release,
        "tool": made.tool,
        "content_digest": made.content_digest,
        "changes": list(made.changes),
        "edited": list(made.edited),
    }


def _token_data(status: Status) -> dict[str, Any]:
    current = status.seen.deployment
    return {
        "listed": status.seen.token.listed,
        "stored": [
            {
                "account": known.account,
                "stored": _iso(known.stored),
                "issued": _iso(known.issued),
                "age_seconds": round((status.observed - known.issued).total_seconds()),
                "expires": _iso(known.expires),
                "deployment_id": known.deployment_id,
                "of_this_deployment": current is not None and known.deployment_id == current.id,
            }
            for known in status.seen.token.stored
        ],
        "previous": [
            {"account": known.account, "stored": _iso(known.stored), "deployment_id": known.deployment_id}
            for known in status.seen.token.previous
        ],
    }


def _collection_data(seen: Observed) -> dict[str, Any]:
    found = seen.collection
    return {
        "jobs": found.jobs,
        "name": found.name or None,
        "schedule": found.schedule or None,
        "words": found.words or None,
        "paused": found.paused,
        "next": _iso(found.next),
        "last": _run_data(found.last),
        "started_here": _iso(found.started_here),
        "running": _run_data(found.running),
        "overdue_since": _iso(found.missed.due if found.missed else None),
        "missed_again": found.missed is not None and found.missed.again,
        "outdated": found.outdated,
    }


def _run_data(run: LastRun | None) -> dict[str, Any] | None:
    if run is None:
        return None
    return {
        "id": run.id,
        "state": run.state,
        "began": _iso(run.began),
        "outcome": run.outcome or None,
        "passed": run.passed,
        "message": run.message,
    }


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment else None
