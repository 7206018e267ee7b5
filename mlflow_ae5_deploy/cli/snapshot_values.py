"""Values of options about snapshots, checked before anything is sent to the platform."""

from __future__ import annotations

import re

from mlflow_ae5_deploy.common.errors import Usage

LATEST = "latest"
ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,127}\Z")  # no '-' at the start: the job would read an option
_SHARE = re.compile(r"(\d{1,3})(\.\d+)?%\Z")


def checked_snapshot(value: str | None, option: str = "--snapshot") -> str:
    """`latest` where none is named."""
    if value is None:
        return LATEST
    return _checked(value, option, "the id of a snapshot, or latest", "`backup list` shows them.")


def checked_damaged(value: str) -> str:
    return _checked(value, "--drop-damaged", "the id of a damaged snapshot", "`backup list` marks them DAMAGED.")


def checked_saved_copy(value: str, option: str = "--drop-saved") -> str:
    return _checked(value, option, "the name of a saved copy", "`restore --list-saved` shows the names.")


def _checked(value: str, option: str, what: str, remedy: str) -> str:
    if not ID.match(value):
        raise Usage(f"{option} takes {what}.", where=option, remedy=remedy)
    return value


def checked_share(value: str) -> str:
    match = _SHARE.match(value)
    if not match or not 0 < float(value[:-1]) <= 100:
        raise Usage("--sample takes a share such as 1% or 25%.", where="--sample", remedy="--all checks everything.")
    return value
