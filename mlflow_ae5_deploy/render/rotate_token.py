"""The output of a rotation, as text and as JSON."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from mlflow_ae5_deploy.common.durations import duration
from mlflow_ae5_deploy.render.console import SCHEMA
from mlflow_ae5_deploy.render.install import error_data

if TYPE_CHECKING:
    from mlflow_ae5_deploy.operations.rotate_token_result import Rotation
    from mlflow_ae5_deploy.render.console import Reporter

_HEADLINES = {
    "rotated": "The token was rotated.",
    "finished": "The earlier rotation is finished.",
    "unchanged": "Unchanged.",
    "incomplete": "The rotation is incomplete.",
}


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
        "left": [item.account for item in result.accounts if item.outcome == "failed"],
        "token_downtime_seconds": None if result.downtime is None else round(result.downtime, 3),
        "gc": {"state": gc.state, "message": gc.message} if gc else None,
        "restarted": restarted is not None,
        "rolled_back": restarted is not None and restarted.failed is not None,
        "token": {
            "issued": _moment(result.issued),
            "age_seconds": round((now - result.issued).total_seconds()) if result.issued else None,
            "expires": _moment(result.expires),
        },
        "warnings": list(result.warnings),
        "error": error_data(result.error) if result.error else None,
    }


def show_rotation(reporter: Reporter, result: Rotation, now: datetime) -> None:
    reporter.close()  # the progress display, before lines
    rolled_back = result.restarted is not None and result.restarted.failed is not None
    back = " The restart was rolled back." if rolled_back else ""
    reporter.line(_HEADLINES[result.outcome] + back, style="bold")
    rows = [
        ("Why", result.reason),
        ("Deployment", f"{result.deployment.name} ({result.deployment.id}), {result.url}"),
        ("Stored for", _names(result, "stored")),
        ("Kept by", _names(result, "kept")),
        ("Left", _names(result, "failed")),
        ("Downtime", "" if result.downtime is None else f"{result.downtime:.1f} s without a valid stored token"),
        ("Gc job", f"{result.gc.state}: {result.gc.message}" if result.gc else ""),
        ("Token", _token(result, now)),
    ]
    for title, text in rows:
        if text:
            reporter.hanging(f"  {title:<11} ", text)
    for warning in result.warnings:
        reporter.hanging("  warning     ", warning, "yellow")


def _names(result: Rotation, outcome: str) -> str:
    return ", ".join(item.account for item in result.accounts if item.outcome == outcome)


def _token(result: Rotation, now: datetime) -> str:
    if result.issued is None:
        return ""
    words = f"issued {duration(now - result.issued)} ago"
    if result.expires is None:
        return f"{words}; no expiry stated"
    return f"{words}, expires {result.expires:%Y-%m-%d %H:%M} UTC"


def _moment(when: datetime | None) -> str | None:
    return when.isoformat(timespec="seconds") if when else None
