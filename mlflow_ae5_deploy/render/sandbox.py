"""A running sandbox, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlflow_ae5_deploy.render.console import Reporter
from mlflow_ae5_deploy.render.format import Mark


def show_sandbox(reporter: Reporter, fields: Mapping[str, Any]) -> None:
    """fields: those of the JSON document."""
    rows = {
        "Sign in": fields["url"],
        "Accounts": ", ".join(fields["accounts"]) or "not readable",
        "Passwords": f"{fields['credentials_file']} (only you can read it)",
        "Certificate": f"{fields['ca_file']} (trust it, or accept the browser's warning)",
        "State": fields["state_dir"],
    }
    reporter.marked(Mark.OK, f"Sandbox running (pid {fields['pid']})")
    for title, text in rows.items():
        reporter.hanging(f"  {title:<13}", text)
