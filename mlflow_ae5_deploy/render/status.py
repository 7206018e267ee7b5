"""`status` on one screen, as JSON, and as the line of a Nagios plugin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from mlflow_ae5_deploy.common.durations import duration, iso, moment
from mlflow_ae5_deploy.common.errors import DeadlineExceeded, Unreachable
from mlflow_ae5_deploy.common.text import counted, whole_commands
from mlflow_ae5_deploy.jobs.latest_outcomes import CHECK, DRILL
from mlflow_ae5_deploy.operations.health_problem import ERROR
from mlflow_ae5_deploy.operations.status.run import Status
from mlflow_ae5_deploy.operations.status.state import InstallationState
from mlflow_ae5_deploy.release.provenance import short_name
from mlflow_ae5_deploy.render import status_backups
from mlflow_ae5_deploy.render.console import Reporter
from mlflow_ae5_deploy.render.format import Mark

_FEW = 3  # changes that are shown one by one
_NOT_VISIBLE = "not visible from here; run `doctor --from-platform`"
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
    reporter.document("status", outcome(status), compact=compact, **_data(status))
    mark = Mark.OK if status.healthy else Mark.WARNING if _starting(status) else Mark.FAILED
    reporter.marked(mark, headline(status))
    for remedy, group in groupby(status.problems, key=lambda problem: problem.remedy):
        same = list(group)
        for problem in same:
            if problem.code != "not-installed":  # the headline says so
                reporter.marked(Mark.FAILED if problem.severity == ERROR else Mark.WARNING, problem.message)
        codes = ", ".join(dict.fromkeys(problem.code for problem in same))
        reporter.hanging("  ", f"{whole_commands(remedy)} ({codes})")
    if not status.state.installed:
        return
    reporter.line()
    for title, text in rows(status):
        reporter.hanging(f"  {title:<10} ", text)
    for text in _drift_in_short(status):
        reporter.hanging(" " * 13, text, "yellow")


def show_headline(reporter: Reporter, status: Status) -> None:
    """For --quiet."""
    reporter.document("status", outcome(status), **_data(status))
    reporter.line(headline(status))


def outcome(status: Status) -> str:
    """The JSON document's."""
    if not status.state.installed:
        return "not installed"
    return "healthy" if status.healthy else "unhealthy"


def headline(status: Status) -> str:
    state, now = status.state, status.observed
    where = f"project {status.project} of {status.account} on {status.host}"
    if not state.installed:
        missing = where if state.account_exists else f"account {status.account} on {status.host}"
        return f"Not installed: there is no {missing}."
    count = [(len(status.errors), "problems"), (len(status.warnings), "warnings")]
    found = "".join(f", {counted(number, word)}" for number, word in count if number)
    url = state.deployment.url if state.deployment else None
    server = f"MLflow {state.version or ''}".rstrip() + f" at {url.rstrip('/')}" if url else where
    if _starting(status):
        return f"Starting: {server}."
    if not status.healthy:
        works = " The server works" if state.health is not None and state.health.healthy else ""
        return f"Not healthy{found}{'.' if works else ''}{works}: {server}."
    newest = state.backups.newest
    backup = f"last known backup {duration(now - newest.finished)} ago" if newest else "no known backup"
    return f"Healthy{found}: {server}, {backup}."


def _starting(status: Status) -> bool:
    """Nothing is wrong but that the server is not up yet."""
    return [problem.code for problem in status.errors] == ["server-starting"]


def rows(status: Status) -> list[tuple[str, str]]:
    """(title, text) of every line that is always there."""
    state, now = status.state, status.observed
    current = state.deployment
    return [
        ("Release", _release(state)),
        ("Schema", _NOT_VISIBLE),
        ("Deployment", _deployment(state, now)),
        ("URL", (current.url if current else None) or "none"),
        ("Token", _token(state, now)),
        ("GC", _gc(state, now)),
        ("Backup", status_backups.words(state.backups, now)),
        ("Unsaved", status_backups.unsaved(state.backups, now)),
        ("Check", status_backups.last(state.backups, CHECK, now)),
        ("Drill", status_backups.last(state.backups, DRILL, now)),
        ("Secrets", _secrets(state)),
        ("Sharing", ", ".join(f"{kind} {name}" for kind, name in state.shared) or "with nobody"),
        ("Took", f"{status.seconds:.1f} s ({counted(status.requests, 'API calls')})"),
        ("Drift", _drift(status)),
    ]


def _secrets(state: InstallationState) -> str:
    count, missing, new = len(state.desired_secrets), state.missing_secrets, state.new_secrets
    absent = [
        f"{what}: {', '.join(names)}" for what, names in (("missing", missing), ("not installed yet", new)) if names
    ]
    return "; ".join((f"{count - len(missing) - len(new)} of {count}", *absent)) if absent else f"all {count} present"


def _deployment(state: InstallationState, now: datetime) -> str:
    current = state.deployment
    if current is None:
        return "none"
    created = f", created {moment(current.created, now)}" if current.created else ""
    profile = f", profile {current.resource_profile}" if current.resource_profile else ""
    return f"{current.name} ({current.id}) {current.state}{created}{profile}"


def _release(state: InstallationState) -> str:
    mlflow = f"MLflow {state.version}" if state.version else f"MLflow version unknown ({state.version_unknown})"
    build = state.build
    if build is None:
        return f"unknown ({state.build_unknown}); {mlflow}"
    changes = counted(len(build.changes), "customizations") if build.changes else "no customizations"
    text = f"{short_name(build.release)}, {changes}"
    if build.edited:
        text += ", edited since"
    running = state.deployment.revision if state.deployment else state.newest_revision
    if running not in (state.newest_revision, "latest"):
        text += f"; revision {running} runs, {state.newest_revision} is the newest"
    return f"{text}; {mlflow}"


def _token(state: InstallationState, now: datetime) -> str:
    if not state.token.listed and not state.token.stored:
        return "none stored"
    if not state.token.stored and not state.token.previous:
        return _NOT_VISIBLE
    accounts = []
    replaced = state.gc.last is not None and state.gc.last.own_token is False  # that of the service account, the first
    for number, token in enumerate(state.token.stored):
        current = state.deployment is not None and token.deployment_id == state.deployment.id
        of = "" if current else ", of an EARLIER deployment"
        end = f", expires {moment(token.expires, now)}" if token.expires else ""
        since = ", replaced by another machine since" if replaced and number == 0 else ""
        accounts.append(f"{token.account}: stored here {duration(now - token.stored)} ago{since}{of}{end}")
    for token in state.token.previous:
        age = duration(now - token.stored)
        accounts.append(f"{token.account}: stored here {age} ago, before the last change to the deployment")
    accounts += (f"{file}: {why}" for file, why in state.token.lost.items())
    if state.token.stored and not replaced:
        accounts.append("another machine may have stored a newer one since")
    return "; ".join(accounts)


def _gc(state: InstallationState, now: datetime) -> str:
    gc = state.gc
    if gc.jobs == 0:
        return "no job"
    if last := gc.last:
        began = f"{moment(last.began, now)}: " if last.began else ""
        failed = "FAILED: " if last.passed is False else ""
        run = f"last {began}{failed}{last.message or last.state}"
    else:  # run records may be deleted: none on record does not mean it never ran
        here = f"last started from here {moment(gc.started_here, now)}, not on record" if gc.started_here else ""
        run = here or "no run on record"
    if gc.running is not None and gc.running.began:
        run += f"; running since {moment(gc.running.began, now)}"
    following = f"next in {duration(gc.next - now)}" if gc.next else "next unknown"
    return f"{'PAUSED' if gc.paused else gc.words}; {run}" + ("" if gc.paused else f"; {following}")


def _drift(status: Status) -> str:
    names = ", ".join(stage.name for stage in status.not_compared)
    not_compared = f"; not compared: {names}" if names else ""
    if not status.drift:
        return f"none{not_compared}"
    number = len(status.drift)
    stages = f"{counted(number, 'stages')} {'differs' if number == 1 else 'differ'} from your configuration"
    if not _drift_in_short(status):
        stages += f": {', '.join(stage.name for stage in status.drift)}"
    return f"{stages}; `plan` adds what follows{not_compared}"


def _drift_in_short(status: Status) -> list[str]:
    """A line for each change, if they are few."""
    changes = [(stage.name, change) for stage in status.drift for change in stage.changes]
    # with a colon, the scrubber masks what follows `token`
    return [f"{name}  would {change.phrase} ({change.why})" for name, change in changes] if len(changes) <= _FEW else []


# for monitoring ---------------------------------------------------------------------------------------------------

NAGIOS_OK, NAGIOS_WARNING, NAGIOS_CRITICAL, NAGIOS_UNKNOWN = range(4)
_NAGIOS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")


def nagios(status: Status) -> tuple[int, str]:
    """(exit code, line) of a Nagios plugin: the first problem, and what was measured."""
    code = NAGIOS_CRITICAL if not status.healthy else NAGIOS_WARNING if status.warnings else NAGIOS_OK
    text = headline(status)
    if status.problems and status.state.installed:
        first, more = (status.errors or status.problems)[0], len(status.problems) - 1
        text = f"{first.message.rstrip('.')} ({first.code})" + (f", and {more} more" if more else "")
    return code, nagios_line(code, text, _measured(status))


def nagios_failure(error: BaseException, text: str) -> tuple[int, str]:
    """The same where the check itself failed: only a platform that does not answer is critical, see the reference."""
    code = NAGIOS_CRITICAL if isinstance(error, Unreachable | DeadlineExceeded) else NAGIOS_UNKNOWN
    return code, nagios_line(code, text)


def nagios_line(code: int, text: str, measured: Mapping[str, str] | None = None) -> str:
    """`|` and line breaks end the text of a plugin."""
    performance = " ".join(f"{name}={value}" for name, value in (measured or {}).items())
    plain = " ".join(text.replace("|", "/").split())
    return f"MLFLOW {_NAGIOS[code]} - {plain}" + (f" | {performance}" if performance else "")


def _measured(status: Status) -> dict[str, str]:
    """Only what was observed."""
    state, now = status.state, status.observed
    measured = {"errors": str(len(status.errors)), "warnings": str(len(status.warnings))}
    if newest := state.backups.newest:
        measured["backup_age"] = _seconds(now - newest.finished)
    if state.gc.last is not None and state.gc.last.began is not None:
        measured["gc_age"] = _seconds(now - state.gc.last.began)
    left = [token.expires - now for token in state.token.stored if token.expires is not None]
    if left:
        measured["token_left"] = _seconds(min(left))
    return measured | {"time": f"{status.seconds:.2f}s"}


def _seconds(span: timedelta) -> str:
    return f"{max(span.total_seconds(), 0):.0f}s"


# JSON -------------------------------------------------------------------------------------------------------------


def _data(status: Status) -> dict[str, Any]:
    """Times are ISO 8601; null is what does not exist or was not observed."""
    state, current = status.state, status.state.deployment
    return {
        "headline": headline(status),
        "observed": iso(status.observed),
        "host": status.host,
        "account": status.account,
        "project": {"name": status.project, "id": state.project.id if state.project else None},
        "deployment": current
        and {name: getattr(current, name) for name in _DEPLOYMENT}
        | {"since": iso(current.created), "newest_revision": state.newest_revision},
        "api": {
            "status": state.health.status if state.health else "not checked",
            "message": state.health.message if state.health else "",
        },
        "release": _release_data(state),
        "mlflow": {"version": state.version, "unknown_because": state.version_unknown or None},
        "database_schema": {"revision": None, "unknown_because": _NOT_VISIBLE},
        "token": _token_data(status),
        "unfinished": _plain(state.unfinished),
        "gc": _plain(state.gc) | {"outdated": state.gc.outdated},
        "backup": status_backups.data(state.backups),
        "secrets": {
            "present": [name for name in state.desired_secrets if name in state.secrets],
            "missing": state.missing_secrets,
            "new": list(state.new_secrets),
        },
        "sharing": [{"type": kind, "id": name} for kind, name in state.shared],
        "drift": [
            {"stage": stage.number, "name": stage.name, "changes": [change.data() for change in stage.changes]}
            for stage in status.drift
        ],
        "not_compared": [{"stage": s.number, "name": s.name, "message": s.message} for s in status.not_compared],
        "problems": [problem.data() for problem in status.problems],
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
    return iso(value) if isinstance(value, datetime) else value
