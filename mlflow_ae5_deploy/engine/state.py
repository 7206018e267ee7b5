"""What is remembered between runs, next to the journal: fingerprints and ids, never a secret's value.

AE5 never shows a secret's value again, so the only way to know that a secret is already right is to remember what
was written. A fingerprint is HMAC-SHA256 under a random salt of this installation: it can be compared, and tells
nothing without both the salt and a guess of the value.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.common.files import storage_error, write_private_json
from mlflow_ae5_deploy.common.redaction import Secret

_log = logging.getLogger(__name__)

SCHEMA = 1
_TOKEN = "/MLFLOW_TRACKING_TOKEN"  # noqa: S105 - the end of a key, not a value


@dataclass(frozen=True)
class StoredToken:
    """What is known of the token in one account's secret. expires: None where the token does not say. issued: its age
    counts from then."""

    account: str
    deployment_id: str
    stored: datetime
    expires: datetime | None
    issued: datetime


@dataclass(frozen=True)
class InterruptedRotation:
    """A rotation that has not ended. left: accounts still to be served; none when only the gc job is unproved.

    invalid_since: when the previous token stopped working; None if it works, or if that was not observed. proved: the
    gc job was proved with what is stored, or cannot be.
    """

    deployment_id: str
    left: tuple[str, ...]
    invalid_since: datetime | None
    proved: bool = False


@dataclass(frozen=True)
class PendingJobChange:
    """A scheduled job being made anew. paused: the new one is to be paused, as the former was. jobs: ids of those
    taken down, which this tool pauses first, so that their being paused says nothing."""

    paused: bool
    jobs: tuple[str, ...]


class State:
    """`state.json` of one installation. In a read-only run nothing is written, and nothing is created."""

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self._path = folder / "state.json"
        self._read_only = read_only
        self._data = self._load()

    def refresh(self) -> None:
        """Read it again: whoever waited for the lock must see what its former holder remembered."""
        self._data = self._load()

    def _load(self) -> dict[str, Any]:
        fresh: dict[str, Any] = {
            "schema": SCHEMA,
            "salt": secrets.token_hex(16),
            "secrets": {},
            "token": None,
            "rotation": None,
            "restart": None,
            "job_changes": {},
            "shared": [],
            "snapshot": None,
            "repository": None,
            "outcomes": {},
            "recovery": None,
            "upgrade": None,
        }
        try:
            data = json.loads(self._path.read_text())
        except (FileNotFoundError, NotADirectoryError):  # what stands in the way of a folder is told by writing there
            return fresh
        except OSError as error:
            raise storage_error(error, self._path) from None
        except ValueError as error:
            raise Configuration(
                f"What was remembered of this installation cannot be read: {error}.",
                where=str(self._path),
                remedy="Move the file away; the next run then stores every secret once more and issues a new token.",
            ) from None
        if not isinstance(data, dict) or data.get("schema") != SCHEMA or not isinstance(data.get("salt"), str):
            raise Configuration(
                "What was remembered of this installation has a form this version does not know.",
                where=str(self._path),
                remedy="Use the version of the tool that wrote it, or move the file away.",
            )
        return {**fresh, **data}

    def _save(self) -> None:
        if not self._read_only:
            write_private_json(self._path, self._data)
            _log.info("state written: %s", self._path.name)

    def fingerprint(self, value: Secret) -> str:
        """Comparable within this installation, and tells nothing of the value."""
        return value.fingerprint(bytes.fromhex(self._data["salt"]))

    # secrets, by account and name -------------------------------------------------------------------------------

    def secret_state(self, account: str, name: str, value: Secret) -> str:
        """`same`, `different` (we wrote another value) or `unknown` (we never wrote it)."""
        known = self._data["secrets"].get(f"{account}/{name}")
        if known is None:
            return "unknown"
        return "same" if known["fingerprint"] == self.fingerprint(value) else "different"

    def remember_secret(self, account: str, name: str, value: Secret, when: datetime) -> None:
        self._data["secrets"][f"{account}/{name}"] = {
            "fingerprint": self.fingerprint(value),
            "stored": when.isoformat(timespec="seconds"),
        }
        self._save()

    def has_secret(self, account: str, name: str) -> bool:
        """Whether we wrote it."""
        return f"{account}/{name}" in self._data["secrets"]

    # the token --------------------------------------------------------------------------------------------------

    def token_deployment(self) -> str | None:
        """Id of the deployment whose token was last stored for the service account."""
        token = self._data["token"]
        return token["deployment_id"] if token else None

    def token_stored_for(self, account: str) -> str | None:
        """Id of the deployment whose token is stored as `account`'s secret."""
        known = self.stored_token(account)
        return known.deployment_id if known else None

    def stored_token(self, account: str) -> StoredToken | None:
        """None also when the record is damaged or was overtaken by another write of that secret."""
        known = self._data["secrets"].get(account + _TOKEN)
        if not known or "deployment_id" not in known:
            return None
        own = self._data["token"]
        if own and own.get("account") == account and own.get("fingerprint") != known.get("fingerprint"):
            return None
        try:
            expires = known.get("expires")
            return StoredToken(
                account,
                known["deployment_id"],
                datetime.fromisoformat(known["stored"]),
                datetime.fromisoformat(expires) if expires else None,
                datetime.fromisoformat(known["issued"]),
            )
        except (KeyError, TypeError, ValueError):
            return None

    def stored_tokens(self) -> list[StoredToken]:
        """One for each account that was given a token, consumers included."""
        accounts = [name.removesuffix(_TOKEN) for name in self._data["secrets"] if name.endswith(_TOKEN)]
        return [found for account in accounts if (found := self.stored_token(account)) is not None]

    def remember_token(
        self,
        account: str,
        deployment_id: str,
        value: Secret,
        when: datetime,
        *,
        own: bool,
        issued: datetime,
        expires: datetime | None = None,
    ) -> None:
        """own: it is the service account's; a restart of the server is then complete."""
        record = {
            "fingerprint": self.fingerprint(value),
            "stored": when.isoformat(timespec="seconds"),
            "issued": issued.isoformat(timespec="seconds"),
            "deployment_id": deployment_id,
            "expires": expires.isoformat(timespec="seconds") if expires else None,
        }
        self._data["secrets"][account + _TOKEN] = record
        self._data.get("former_tokens", {}).pop(account, None)
        if own:
            self._data["token"] = {"account": account, **record}
            self._data["restart"] = None
        rotation = self._data["rotation"]
        if rotation and rotation["deployment_id"] == deployment_id:
            rotation["left"] = [name for name in rotation["left"] if name != account]
        self._save()

    def forget_token(self) -> None:
        """After a change that may have voided it: the next token stage issues a new one."""
        self._data["token"] = None
        self._data["rotation"] = None
        self._put_tokens_away()
        self._save()

    def _put_tokens_away(self) -> None:
        """They are on the platform still, and are taken for good no more."""
        for known in self.stored_tokens():
            times = {name: getattr(known, name).isoformat(timespec="seconds") for name in ("stored", "issued")}
            record = {"deployment_id": known.deployment_id, **times}
            self._data.setdefault("former_tokens", {})[known.account] = record
        for name in [n for n in self._data["secrets"] if n.endswith(_TOKEN)]:
            del self._data["secrets"][name]

    def previous_tokens(self) -> list[StoredToken]:
        """What was stored from this machine for a deployment that was to be changed or taken down, and not replaced."""
        known = self._data.get("former_tokens", {}).items()
        return [
            StoredToken(
                account,
                item["deployment_id"],
                datetime.fromisoformat(item["stored"]),
                None,
                datetime.fromisoformat(item["issued"]),
            )
            for account, item in known
        ]

    # a rotation, and a restart, that may be cut off ---------------------------------------------------------------

    def begin_rotation(self, deployment_id: str, accounts: Sequence[str], invalid_since: datetime | None) -> None:
        self._data["rotation"] = {
            "deployment_id": deployment_id,
            "left": list(accounts),
            "invalid_since": invalid_since.isoformat() if invalid_since else None,
            "proved": False,
        }
        self._save()

    def note_gc_proof(self, when: datetime | None) -> None:
        """The gc job works with what is stored. when: None where that cannot be proved with this release."""
        if self._data["rotation"]:
            self._data["rotation"]["proved"] = True
        if when is not None:
            self._data["gc_proved"] = when.isoformat()
        self._save()

    def gc_proved(self) -> datetime | None:
        """When the gc job was last seen to work with the token that is stored now."""
        known = self._data.get("gc_proved")
        return datetime.fromisoformat(known) if known else None

    def unfinished_rotation(self) -> InterruptedRotation | None:
        known = self._data["rotation"]
        if not known:
            return None
        since = known["invalid_since"]
        return InterruptedRotation(
            known["deployment_id"],
            tuple(known["left"]),
            datetime.fromisoformat(since) if since else None,
            known["proved"],
        )

    def end_rotation(self) -> None:
        if self._data["rotation"] is not None:
            self._data["rotation"] = None
            self._save()

    def note_restart(self, report: dict[str, Any]) -> None:
        """Before the server is stopped: what it takes to start it again, also when this run is cut off now."""
        self._data["restart"] = report
        self._save()

    def pending_restart(self) -> dict[str, Any] | None:
        return dict(self._data["restart"]) if self._data["restart"] else None

    # snapshots, a restore and an upgrade, that may be cut off -------------------------------------------------------

    def remember_snapshot(self, report: dict[str, Any]) -> None:
        """The newest one this machine knows of: id, finished, verified (times in ISO 8601, or None), complete, ..."""
        known = self._data["snapshot"]
        self._data["snapshot"] = {**known, **report} if known and known.get("id") == report.get("id") else report
        self._save()

    def snapshot(self) -> dict[str, Any] | None:
        return dict(self._data["snapshot"]) if self._data["snapshot"] else None

    def note_repository(self, report: dict[str, Any]) -> None:
        """The place of the backups: its id, its setting, and what was seen last; see resources/backup_repository.py."""
        self._data["repository"] = report
        self._save()

    def repository(self) -> dict[str, Any] | None:
        return dict(self._data["repository"]) if isinstance(self._data["repository"], dict) else None

    def note_outcomes(self, report: dict[str, Any]) -> None:
        """How the last backup, check, drill and look at the backups ended; see jobs/outcomes.py."""
        self._data["outcomes"] = report
        self._save()

    def outcomes(self) -> dict[str, Any]:
        return dict(self._data["outcomes"])

    def note_recovery(self, report: dict[str, Any] | None) -> None:
        """asked, snapshot, project_id, state (begun or done), ended (the whole run came to its end), when, said (where
        a job has told how the data is)."""
        self._data["recovery"] = report
        self._save()

    def forget_begun_recovery(self) -> None:
        """It has ended, whatever became of it: a server answers from the data."""
        if (self._data["recovery"] or {}).get("state") == "begun":
            self.note_recovery(None)

    def recovery(self) -> dict[str, Any] | None:
        return dict(self._data["recovery"]) if self._data["recovery"] else None

    def note_upgrade(self, report: dict[str, Any] | None) -> None:
        """Before each step of an upgrade: what it takes to go on, or back, also when this run is cut off now."""
        self._data["upgrade"] = report
        self._save()

    def pending_upgrade(self) -> dict[str, Any] | None:
        return dict(self._data["upgrade"]) if self._data["upgrade"] else None

    # scheduled jobs that are being made anew ------------------------------------------------------------------------

    def begin_job_change(self, purpose: str, *, paused: bool, jobs: Sequence[str]) -> None:
        """Before a job is taken down, which begins with pausing it: whether somebody had paused it, and its id.

        purpose: which of the scheduled jobs it is. What is noted of one says nothing of another.
        """
        before = self._data["job_changes"].get(purpose)
        change = {"paused": paused, "jobs": sorted({*(before["jobs"] if before else ()), *jobs})}
        if change != before:
            self._data["job_changes"][purpose] = change
            self._save()

    def job_change(self, purpose: str) -> PendingJobChange | None:
        known = self._data["job_changes"].get(purpose)
        return PendingJobChange(known["paused"], tuple(known["jobs"])) if known else None

    def end_job_change(self, purpose: str) -> None:
        if self._data["job_changes"].pop(purpose, None) is not None:
            self._save()

    # secrets the running server was started with ----------------------------------------------------------------

    def note_stale_server(self, names: list[str]) -> None:
        """Values changed under a running server: it must be started again, also when this run is cut off now."""
        self._data["stale_server"] = sorted({*self._data.get("stale_server", []), *names})
        self._save()

    def stale_server(self) -> list[str]:
        return list(self._data.get("stale_server", []))

    def clear_stale_server(self) -> None:
        known = [self._data.pop(key, None) for key in ("stale_server", "unsure_server")]
        if any(item is not None for item in known):
            self._save()

    def note_unsure_server(self, names: list[str]) -> None:
        """Stored over values that are not known here: the running server may have others until it starts again."""
        self._data["unsure_server"] = sorted({*self.unsure_server(), *names})
        self._save()

    def unsure_server(self) -> list[str]:
        return list(self._data.get("unsure_server", []))

    # sharing ----------------------------------------------------------------------------------------------------

    def shared(self) -> set[tuple[str, str]]:
        """(type, id) of every collaborator this tool added."""
        return {(kind, name) for kind, name in self._data["shared"]}

    def remember_shared(self, pairs: set[tuple[str, str]]) -> None:
        self._data["shared"] = sorted([list(pair) for pair in pairs])
        self._save()

    # after an uninstall -------------------------------------------------------------------------------------------

    def secrets_of(self, account: str) -> set[str]:
        """Names of the secrets this tool wrote for an account, from this machine."""
        return {name for owner, _, name in (key.rpartition("/") for key in self._data["secrets"]) if owner == account}

    def accounts(self) -> set[str]:
        """Every account this tool wrote a secret for, from this machine."""
        return {key.rpartition("/")[0] for key in self._data["secrets"]}

    def forget_secret(self, account: str, name: str) -> None:
        previous = self._data.get("former_tokens", {})
        gone = previous.pop(account, None) if f"/{name}" == _TOKEN else None
        if self._data["secrets"].pop(f"{account}/{name}", None) is not None or gone is not None:
            self._save()

    def forget_deployment(self) -> None:
        """There is none any more: its tokens, its sharing and what was pending for it are gone. Secrets stay."""
        fresh: dict[str, Any] = {
            "token": None,
            "rotation": None,
            "restart": None,
            "job_changes": {},
            "shared": [],
            "upgrade": None,
        }
        before = json.dumps(self._data, sort_keys=True)
        self._data = {**self._data, **{key: value for key, value in fresh.items() if key in self._data}}
        self._data.pop("stale_server", None)
        self._data.pop("unsure_server", None)
        self._put_tokens_away()
        if json.dumps(self._data, sort_keys=True) != before:
            self._save()
