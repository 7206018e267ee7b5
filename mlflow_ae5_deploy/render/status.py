"""`status` on one screen, and as JSON."""

from __future__ import annotations

from dataclasses import asdict, fields, is_dataclass
from datetime import datetime, timedelta
from typing import Any

from mlflow_ae5_deploy.common.durations import duration, moment
from mlflow_ae5_deploy.common.text import counted
from mlflow_ae5_deploy.operations import status_backups
from mlflow_ae5_deploy.operations.status.run import Status
from mlflow_ae5_deploy.operations.status.state import InstallationState
from mlflow_ae5_deploy.render.console import Reporter

# MLflow does not start on a schema of another version, so a healthy server has the right schema.
_NO_SCHEMA = "no endpoint shows it; `doctor --from-platform` reads it"
_DEPLOYMENT = [
    "id",
    "name",
    "state",
    "status_text",
    "url",
    "endpoint",
    "command",
    "revision",
    "resource_profile",
    "public",
]


def show(reporter: Reporter, status: Status, *, compact: bool = False) -> None:
    reporter.document("status", _headline(status).replace("not healthy", "unhealthy"), compact=compact, **_data(status))
    style = "bold green" if status.healthy else "bold red"
    reporter.hanging("", f"{_headline(status)}: project {status.project} of {status.account} on {status.host}", style)
    reporter.line()
    if status.state.installed:
        for title, text in rows(status):
            reporter.hanging(f"  {title:<11} ", text)
        for stage in status.drift:
            for change in stage.changes:
                would = f"stage {stage.number} ({stage.name}) would {change.phrase}, because {change.reason}"
                reporter.hanging("    differs   ", would, "yellow")
        if status.problems or status.warnings:
            reporter.line()
    for text in status.problems:
        reporter.hanging("  ! ", text, "red")
    for text in status.warnings:
        reporter.hanging("  warning: ", text, "yellow")


def _headline(status: Status) -> str:
    if not status.state.installed:
        return "not installed"
    return "healthy" if status.healthy else "not healthy"


def rows(status: Status) -> list[tuple[str, str]]:
    """(title, text) of every line that is always there."""
    state, now = status.state, status.observed
    current, count, missing = state.deployment, len(state.desired_secrets), state.missing_secrets
    secrets = f"{count - len(missing)} of {count} present, missing: {', '.join(missing)}"
    return [
        ("Deployment", _deployment(state, now)),
        ("URL", (current.url if current else None) or "none"),
        ("API", state.health.message if state.health else "not checked: no server runs"),
        ("Release", _release(state)),
        ("MLflow", state.version or f"version unknown: {state.version_unknown}"),
        ("Schema", f"unknown: {_NO_SCHEMA}"),
        ("Token", _token(state, now)),
        ("Collection", _collection(state, now)),
        ("Backup", status_backups.words(state.backups, now)),
        ("Secrets", secrets if missing else f"all {count} present"),
        ("Sharing", ", ".join(f"{kind} {name}" for kind, name in state.shared) or "with nobody"),
        ("Drift", _drift(status)),
        ("Took", f"{status.seconds:.1f} s ({counted(status.requests, 'requests')})"),
    ]


def _deployment(state: InstallationState, now: datetime) -> str:
    current = state.deployment
    if current is None:
        return "none"
    since = f" since {_when(current.created, now)}" if current.created else ""
    visibility = "public" if current.public else "private"
    return (
        f"{current.state}{since}, {current.name} ({current.id}), command {current.command}, "
        f"profile {current.resource_profile}, {visibility}"
    )


def _release(state: InstallationState) -> str:
    build = state.build
    if build is None:
        return f"unknown: {state.build_unknown}"
    changes = counted(len(build.changes), "customizations") if build.changes else "no customizations"
    text = f"{build.release.removeprefix('release ')}, {changes}, content {build.content_digest[:12]}"
    if build.edited:
        text += ", edited since"
    running = state.deployment.revision if state.deployment else state.newest_revision
    return f"{text}; revision {running}" + (
        f" ({state.newest_revision} is the newest)" if running != state.newest_revision else ""
    )


def _token(state: InstallationState, now: datetime) -> str:
    if not state.token.listed and not state.token.stored:
        return "none stored"
    if not state.token.stored and not state.token.previous:
        return "stored from another machine; its age and deployment are not known here"
    accounts = []
    for token in state.token.stored:
        if state.deployment is None:
            deployment = "of a deployment that does not run"
        elif token.deployment_id == state.deployment.id:
            deployment = "of this deployment"
        else:
            deployment = "of an EARLIER deployment, by this machine's records"
        end = f", expires {_when(token.expires, now)}" if token.expires else ""
        age = duration(max(now - token.issued, timedelta(0)))
        accounts.append(f"{token.account}: {age} old, {deployment}{end}")
    for token in state.token.previous:
        age = duration(max(now - token.stored, timedelta(0)))
        accounts.append(
            f"{token.account}: stored {age} ago, before a change to deployment {token.deployment_id} was started"
        )
    return "; ".join(accounts)


def _collection(state: InstallationState, now: datetime) -> str:
    collection = state.collection
    if collection.jobs == 0:
        return "no job"
    if last := collection.last:
        began = f"{_when(last.began, now)} " if last.began else ""
        run = f"last {began}{last.state}" + (f": {last.message}" if last.message else "")
    else:  # run records may be deleted: none on record does not mean it never ran
        started = collection.started_here
        run = "no run on record" + (f"; this machine started one {_when(started, now)}" if started else "")
    running = collection.running
    if running is not None and running.began:
        run += f"; running since {_when(running.began, now)}"
    following = f"next {_when(collection.next, now)}" if collection.next else "next unknown"
    return f"{collection.words} ({collection.schedule} UTC); {run}; {'PAUSED' if collection.paused else following}"


def _drift(status: Status) -> str:
    names = ", ".join(stage.name for stage in status.not_compared)
    not_compared = f"; not compared: {names}" if names else ""
    if not status.drift:
        return f"none{not_compared}"
    return f"{len(status.drift)} of {len(status.stages)} stages differ from the configuration{not_compared}"


def _when(when: datetime | None, now: datetime) -> str:
    if when is None:
        return "an unknown time"
    return moment(when, now)


# JSON -------------------------------------------------------------------------------------------------------------


def _data(status: Status) -> dict[str, Any]:
    """Times are ISO 8601; null is what does not exist or was not observed."""
    state, current = status.state, status.state.deployment
    return {
        "observed": _iso(status.observed),
        "host": status.host,
        "account": status.account,
        "project": {"name": status.project, "id": state.project.id if state.project else None},
        "deployment": current
        and {name: getattr(current, name) for name in _DEPLOYMENT}
        | {"public": current.public, "since": _iso(current.created), "newest_revision": state.newest_revision},
        "api": {
            "status": state.health.status if state.health else "not checked",
            "message": state.health.message if state.health else "",
        },
        "release": _release_data(state),
        "mlflow": {"version": state.version, "unknown_because": state.version_unknown or None},
        "database_schema": {"revision": None, "unknown_because": _NO_SCHEMA},
        "token": _token_data(status),
        "unfinished": _plain(state.unfinished),
        "collection": _plain(state.collection) | {"outdated": state.collection.outdated},
        "backup": status_backups.data(state.backups),
        "secrets": {
            "present": [name for name in state.desired_secrets if name in state.secrets],
            "missing": state.missing_secrets,
        },
        "sharing": [{"type": kind, "id": name} for kind, name in state.shared],
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


def _release_data(state: InstallationState) -> dict[str, Any]:
    if state.build is None:
        return {"name": None, "unknown_because": state.build_unknown}
    build = asdict(state.build)
    return {"name": build.pop("release"), **build}


def _token_data(status: Status) -> dict[str, Any]:
    current, token = status.state.deployment, status.state.token
    details = [
        {
            "age_seconds": round((status.observed - stored.issued).total_seconds()),
            "of_this_deployment": current is not None and stored.deployment_id == current.id,
        }
        for stored in token.stored
    ]
    stored = [_plain(one) | more for one, more in zip(token.stored, details, strict=True)]
    return {"listed": token.listed, "stored": stored, "previous": _plain(token.previous)}


def _plain(value: Any) -> Any:
    """A dataclass, and what is in it, as JSON."""
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return _iso(value) if isinstance(value, datetime) else value


def _iso(when: datetime | None) -> str | None:
    return when.isoformat(timespec="seconds") if when else None
