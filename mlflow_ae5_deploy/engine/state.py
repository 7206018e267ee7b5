"""What this machine knows between runs: fingerprints and ids, no value that was confidential when it was stored.

AE5 never shows a secret's value again, so the only way to know that a secret is right is to record what was written.
A fingerprint is HMAC-SHA256 under a random salt of this installation: it can be compared, and reveals nothing without
both the salt and a guess of the value.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    Field,
    PrivateAttr,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from mlflow_ae5_deploy.common import json_input
from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.common.files import storage_error, write_private_json
from mlflow_ae5_deploy.common.redaction import Secret
from mlflow_ae5_deploy.common.variable_names import TOKEN
from mlflow_ae5_deploy.engine.records import (
    InterruptedRotation,
    Outcome,
    PendingJobChange,
    PendingOperation,
    PendingRestart,
    RepositoryRecord,
    RestoreRecord,
    ScheduledJobRecord,
    SnapshotRecord,
    StoredSecret,
    StoredToken,
    UpgradeRecord,
    shown_value,
)

_log = logging.getLogger(__name__)

FILE = "state.json"
_FORGOTTEN = "An interrupted upgrade or restore is then forgotten: `history` shows whether there was one."
VERSION: Literal[2] = 2


def _none_if_damaged(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    try:
        return read(value)
    except ValidationError:
        return None


def _other_value_if_damaged(value: Any, read: ValidatorFunctionWrapHandler) -> StoredSecret:
    """That something was stored is not forgotten: a key must not be replaced as if there had been none."""
    try:
        stored: StoredSecret = read(value)
    except ValidationError:
        return StoredSecret("", datetime.fromtimestamp(0, UTC))
    return stored


def _undamaged(kind: type) -> BeforeValidator:
    """Leave out damaged entries of a mapping: the next run observes them again."""

    @functools.cache
    def adapter() -> TypeAdapter[Any]:  # takes as long as a request to build, and only some runs need it
        return TypeAdapter(kind)

    def entries(value: Any) -> dict[str, Any]:
        found = {}
        for key, item in value.items() if isinstance(value, dict) else ():
            with contextlib.suppress(ValidationError):
                found[key] = adapter().validate_python(item)
        return found

    return BeforeValidator(entries)


_NoneIfDamaged = WrapValidator(_none_if_damaged)
_Secrets = dict[str, Annotated[StoredSecret, WrapValidator(_other_value_if_damaged)]]
_Tokens = Annotated[dict[str, StoredToken], _undamaged(StoredToken)]


class SavedState(BaseModel):
    """`state.json` of one installation. Assign to its fields, then `save`.

    A damaged record of an unfinished operation makes the file unreadable; a damaged observation is left out.
    """

    version: Literal[2]
    salt: str = Field(pattern="^([0-9a-f]{2})+$")
    secrets: Annotated[dict[str, _Secrets], _undamaged(_Secrets)] = {}  # by account, then by name
    tokens: _Tokens = {}  # by account
    previous_tokens: _Tokens = {}  # of a deployment that was changed or stopped, and not replaced since
    gc_tested: Annotated[AwareDatetime | None, _NoneIfDamaged] = None  # with the token that is stored now
    rotation: InterruptedRotation | None = None
    restart: PendingRestart | None = None
    upgrade: UpgradeRecord | None = None
    restore: RestoreRecord | None = None
    job_changes: dict[str, PendingJobChange] = {}  # by purpose, see JobSpec
    schedules: dict[str, ScheduledJobRecord] = {}  # by name: set from this machine, or deleted with the project
    stale_secrets: tuple[str, ...] = ()  # changed under a running server, which must be restarted
    uncertain_secrets: tuple[str, ...] = ()  # stored over unknown values: a running server may have others
    shared: tuple[tuple[str, str], ...] = ()  # (type, id) of every collaborator that this tool added
    snapshot: Annotated[SnapshotRecord | None, _NoneIfDamaged] = None
    repository: Annotated[RepositoryRecord | None, _NoneIfDamaged] = None
    outcomes: Annotated[dict[str, Outcome], _undamaged(Outcome)] = {}

    _path: Path = PrivateAttr()
    _read_only: bool = PrivateAttr(default=False)
    _saved: dict[str, Any] = PrivateAttr(default_factory=dict)

    @classmethod
    def load(cls, folder: Path, *, read_only: bool = False) -> SavedState:
        """The state in this folder, or a new one. read_only: `save` writes nothing."""
        path = folder / FILE
        data = _read(path)
        try:
            state = cls.model_validate(data)
        except ValidationError as error:
            raise _damaged(path, ".".join(str(part) for part in error.errors()[0]["loc"])) from None
        state._path, state._read_only, state._saved = path, read_only, state.model_dump(mode="json")
        return state

    def reload(self) -> None:
        """Read the file again, after waiting for another run."""
        fresh = type(self).load(self._path.parent)
        for name in type(self).model_fields:
            setattr(self, name, getattr(fresh, name))
        self._saved = fresh._saved

    def save(self) -> None:
        """Write what has changed since the last time: atomically, for nobody else to read."""
        data = self.model_dump(mode="json")
        if data == self._saved or self._read_only:
            return
        write_private_json(self._path, data)
        self._saved = data
        _log.info("state written: %s", self._path.name)

    @property
    def started_restore(self) -> RestoreRecord | None:
        """A restore whose end was not seen, into whichever project."""
        return self.restore if self.restore is not None and self.restore.status == "started" else None

    @property
    def pending_operation(self) -> PendingOperation | None:
        if self.upgrade is not None:
            return PendingOperation("upgrade", "--roll-back")
        restore = self.started_restore
        return None if restore is None else PendingOperation("restore", restore.options)

    # secrets and tokens -----------------------------------------------------------------------------------------

    def fingerprint(self, value: Secret) -> str:
        """Comparable within this installation, and reveals nothing of the value."""
        return value.fingerprint(bytes.fromhex(self.salt))

    def compare_secret(self, account: str, name: str, value: Secret) -> str:
        """`same`, `different` (we wrote another value) or `unknown` (we never wrote it)."""
        stored = self.secrets.get(account, {}).get(name)
        if stored is None:
            return "unknown"
        return "same" if stored.fingerprint == self.fingerprint(value) else "different"

    def record_secrets(self, account: str, values: Mapping[str, Secret], when: datetime) -> None:
        of_account = self.secrets.setdefault(account, {})
        for name, value in values.items():
            of_account[name] = StoredSecret(self.fingerprint(value), when, shown_value(name, value))
        if TOKEN in values:
            self.tokens.pop(account, None)  # whose token that is, nobody knows
        self.save()

    def forget_secret(self, account: str, name: str) -> None:
        of_account = self.secrets.get(account, {})
        of_account.pop(name, None)
        if not of_account:
            self.secrets.pop(account, None)
        if name == TOKEN:
            self.previous_tokens.pop(account, None)
        self.save()

    def record_token(self, token: StoredToken, *, own: bool) -> None:
        """own: it is the service account's; a restart of the server is then complete."""
        self.tokens[token.account] = token
        self.previous_tokens.pop(token.account, None)
        if own:
            self.restart = None
        rotation = self.rotation
        if rotation is not None and rotation.deployment_id == token.deployment_id:
            remaining = tuple(name for name in rotation.remaining if name != token.account)
            self.rotation = replace(rotation, remaining=remaining) if remaining or not rotation.gc_tested else None
        self.save()

    def record_recipients_left(self, deployment_id: str, names: Sequence[str]) -> None:
        """They have no token of this deployment: `status` names them, and `rotate-token` serves them."""
        before = self.rotation
        if before is None or before.deployment_id != deployment_id:
            before = InterruptedRotation(deployment_id, (), None, gc_tested=True)
        self.rotation = replace(before, remaining=tuple(dict.fromkeys((*before.remaining, *names))))
        self.save()

    def invalidate_tokens(self) -> None:
        """Before a change that may invalidate them: the next token stage issues a new one."""
        self.rotation = None
        self.previous_tokens |= self.tokens
        self.tokens = {}
        self.save()

    # scheduled jobs ---------------------------------------------------------------------------------------------

    def record_job_change(self, purpose: str, *, paused: bool, jobs: Collection[str]) -> None:
        """Before a job is deleted, which begins with pausing it."""
        before = self.job_changes.get(purpose)
        ids = {*(before.jobs if before else ()), *jobs}
        self.job_changes[purpose] = PendingJobChange(paused, tuple(sorted(ids)))
        self.save()

    def end_job_change(self, purpose: str) -> None:
        self.job_changes.pop(purpose, None)
        self.save()

    # after an uninstall -----------------------------------------------------------------------------------------

    def forget_deployment(self) -> None:
        """Forget tokens, sharing and unfinished operations. Secrets stay."""
        self.restart = self.upgrade = None
        self.job_changes = {}
        self.schedules = {}
        self.shared = self.stale_secrets = self.uncertain_secrets = ()
        self.invalidate_tokens()


def _read(path: Path) -> Any:
    """A new state where there is none yet."""
    try:
        return json_input.parse(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):  # writing reports what stands in the way of the folder
        return {"version": VERSION, "salt": secrets.token_hex(16)}
    except OSError as error:
        raise storage_error(error, path) from None
    except ValueError as error:
        raise Configuration(
            f"The state of this installation cannot be read: {error}.",
            where=str(path),
            remedy="Move the file away; the next run then stores all secrets again and issues a new token. "
            + _FORGOTTEN,
        ) from None


def _damaged(path: Path, field: str) -> Configuration:
    if field.startswith("upgrade"):
        return Configuration(
            f"The record of an interrupted upgrade is damaged ({field}).",
            where=str(path),
            remedy="The database may be partly migrated. The archive of the previous release is in the folder "
            "`replaced` next to this file. Move the file away, then run `restore --release <archive> --replace`.",
        )
    return Configuration(
        f"The state of this installation is damaged, or was written by another version ({field or 'no object'}).",
        where=str(path),
        remedy=f"Use the version of the tool that wrote it, or move the file away. {_FORGOTTEN}",
    )
