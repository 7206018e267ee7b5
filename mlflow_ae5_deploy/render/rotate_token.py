"""The output of a rotation, as text and as JSON."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from mlflow_ae5_deploy.common.durations import duration, iso, moment
from mlflow_ae5_deploy.render.console import SCHEMA
from mlflow_ae5_deploy.render.format import Mark
from mlflow_ae5_deploy.render.install import error_data

if TYPE_CHECKING:
    from mlflow_ae5_deploy.operations.rotate_token_result import Rotation
    from mlflow_ae5_deploy.render.console import Reporter


def rotation_data(verb: str, result: Rotation, now: datetime) -> dict[str, Any]:
    restarted, gc = result.restarted, result.gc
    return {
        "schema": SCHEMA,
        "verb": verb,
        "outcome": result.outcome,
        "reason": result.reason,
        "deployment_id": result.deployment.id,
        "url": result.url,
        "accounts": [
            {
                "account": item.account,
                "outcome": item.outcome,
                "error": error_data(item.error) if item.error else None,
            }
            for item in result.accounts
        ],
        "remaining": [item.account for item in result.accounts if item.outcome == "failed"],
        "token_downtime_seconds": None if result.downtime is None else round(result.downtime, 3),
        "observed_downtime_seconds": None if result.observed_downtime is None else round(result.observed_downtime, 3),
        "gc": {"state": gc.state, "message": gc.message} if gc else None,
        "restarted": restarted is not None,
        "rolled_back": restarted is not None and restarted.failed is not None,
        "token": {
            "issued": iso(result.issued),
            "age_seconds": round((now - result.issued).total_seconds()) if result.issued else None,
            "expires": iso(result.expires),
        },
        "warnings": list(result.warnings),
        "error": error_data(result.error) if result.error else None,
    }


_EARLIER = "clients with an earlier token probably keep working; after a leak: `rotate-token --restart`"


def show_rotation(reporter: Reporter, result: Rotation, now: datetime) -> None:
    mark = {"unchanged": Mark.OK, "incomplete": Mark.FAILED}.get(result.outcome, Mark.CHANGE)
    reporter.marked(mark, _headline(result))
    rows = [
        ("Reason", "" if result.outcome == "unchanged" else result.reason),
        ("Deployment", f"{result.deployment.name} ({result.deployment.id}), {result.url}"),
        ("Kept by", _names(result, "kept") if result.outcome != "unchanged" else ""),
        ("Downtime", _downtime(result)),
        ("GC job", _gc(result)),
        ("Token", _token(result, now)),
        ("Old tokens", _EARLIER if result.earlier_valid and result.outcome != "unchanged" else ""),
    ]
    for title, text in rows:
        if text:
            reporter.hanging(f"  {title:<10} ", text)
    for warning in result.warnings:
        reporter.marked(Mark.WARNING, warning)


def _headline(result: Rotation) -> str:
    stored, failed = _names(result, "stored"), _names(result, "failed")
    done = f"stored for {stored}" if stored else "stored for no account"
    match result.outcome:
        case "unchanged":
            text = f"Unchanged: {result.reason}."
        case "finished":
            text = f"Earlier rotation finished: {done if stored else 'the GC job was tested'}."
        case "incomplete":
            text = f"Rotation incomplete: {done}" + (f", not for {failed}." if failed else ".")
        case _:
            text = f"Token rotated: {done}."
    rolled_back = result.restarted is not None and result.restarted.failed is not None
    return text + (" The restart was rolled back." if rolled_back else "")


def _downtime(result: Rotation) -> str:
    if result.observed_downtime is not None:
        return f"{result.observed_downtime:.1f} s measured from outside, until the stored token was accepted"
    return "" if result.downtime is None else f"{result.downtime:.1f} s without a valid stored token"


def _gc(result: Rotation) -> str:
    if result.gc is None:
        return ""
    if result.gc.state == "passed":
        return f"works with the stored token ({result.gc.message})"
    return f"{result.gc.state}: {result.gc.message}"


def _names(result: Rotation, outcome: str) -> str:
    return ", ".join(item.account for item in result.accounts if item.outcome == outcome)


def _token(result: Rotation, now: datetime) -> str:
    if result.issued is None:
        return ""
    end = f"expires {moment(result.expires, now)}" if result.expires else "no expiry stated"
    return f"issued {duration(now - result.issued)} ago, {end}"
