"""The shared core of the sandbox: state, settings, addresses, folders."""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from pathlib import Path

from aiohttp.http_exceptions import HttpProcessingError

from mlflow_ae5_deploy.sandbox.auth.accounts import IdentityProvider, digest
from mlflow_ae5_deploy.sandbox.control_plane.control import Control
from mlflow_ae5_deploy.sandbox.info import VHOST as VHOST
from mlflow_ae5_deploy.sandbox.models import SandboxAccount, SandboxDeployment, SandboxProject
from mlflow_ae5_deploy.sandbox.settings import SandboxSettings
from mlflow_ae5_deploy.sandbox.store import SandboxStore, make_private_folder
from mlflow_ae5_deploy.sandbox.supervisor.processes import ProcessTable

LOG = logging.getLogger("mlflow_ae5_deploy.sandbox")
HTTP_LOG = logging.getLogger("mlflow_ae5_deploy.sandbox.api")


def _without_request(record: logging.LogRecord) -> bool:
    """Log only the kind of a parse error: aiohttp quotes the request, tokens included."""
    if record.exc_info and isinstance(record.exc_info[1], HttpProcessingError):
        record.msg, record.args = "request refused: 400 %s", (type(record.exc_info[1]).__name__,)
        record.exc_info = record.exc_text = None
    return True


HTTP_LOG.addFilter(_without_request)


class Timing:
    """Reads of each record, in memory only: a restart makes everything visible."""

    def __init__(self) -> None:
        self._reads: Counter[str] = Counter()
        self._listed: Counter[str] = Counter()
        self._born: dict[str, float] = {}
        self._needs: dict[str, tuple[int, float, int]] = {}

    def born(self, record_id: str, settings: SandboxSettings) -> None:
        """A new record: from now on it ripens according to the settings of this moment."""
        self._born[record_id] = time.monotonic()
        self._needs[record_id] = (settings.state_polls, settings.state_seconds, settings.list_visibility_polls)

    def read(self, record_id: str) -> None:
        self._reads[record_id] += 1

    def ripe(self, record_id: str) -> bool:
        polls, seconds, _ = self._needs.get(record_id, (0, 0.0, 0))
        age = time.monotonic() - self._born.get(record_id, 0.0)
        return self._reads[record_id] >= polls and age >= seconds

    def in_list(self, record_id: str) -> bool:
        """Whether the record is in this answer of its list. Counts the asking."""
        _, _, hidden = self._needs.get(record_id, (0, 0.0, 0))
        self._listed[record_id] += 1
        return self._listed[record_id] > hidden


class SandboxCore:
    def __init__(self, state_dir: Path, store: SandboxStore, control: Control) -> None:
        self.state_dir = state_dir
        self.store = store
        self.state = store.state
        self.control = control
        self.identity = IdentityProvider(store, control.settings)
        self.timing = Timing()
        self.table = ProcessTable(state_dir / "processes.json")
        self.log = LOG
        self.mounts_secrets = False

    @property
    def settings(self) -> SandboxSettings:
        return self.control.settings

    def save(self) -> None:
        self.store.save()

    # -- addresses ------------------------------------------------------------------------

    @property
    def vhosts(self) -> bool:
        return self.state.addressing == "vhost"

    @property
    def host(self) -> str:
        """The platform's host name, with its port."""
        return f"{VHOST if self.vhosts else 'localhost'}:{self.state.port}"

    @property
    def origin(self) -> str:
        """The platform's address, without a path."""
        return f"https://{self.host}"

    def endpoint_host(self, label: str) -> str:
        if self.vhosts:
            return f"{label}.{self.host}"
        return f"localhost:{self.state.endpoint_ports[label]}"

    def label_of_alias(self, text: str) -> str | None:
        """The endpoint of `localhost:EPORT`, which ae5-tools derives from such a URL."""
        port = text.removeprefix("localhost:")
        if port == text or not port.isdigit():
            return None
        return next((label for label, p in self.state.endpoint_ports.items() if p == int(port)), None)

    # -- folders --------------------------------------------------------------------------

    def is_being_released(self, label: str) -> bool:
        """Whether a static endpoint is still taken, although its deployment was stopped."""
        return time.time() < self.state.released.get(label, 0.0) + self.settings.endpoint_release_seconds

    def folder(self, *parts: str) -> Path:
        path = self.state_dir
        for part in parts:
            path = make_private_folder(path / part)
        return path

    def archive(self, project: SandboxProject, revision: str) -> Path:
        return self.folder("archives", project.hex) / f"{digest(revision)[:16]}.tar.gz"

    def secrets_folder(self, username: str) -> Path:
        return self.folder("secrets", folder_name(username))

    def volume(self, username: str) -> Path:
        """The account's persistent storage, linked as `data` in its projects."""
        return self.folder("volumes", folder_name(username), "data")

    def launch_options(self, username: str) -> tuple[str, ...]:
        """For the launcher of a command of this account."""
        return (f"secrets={self.secrets_folder(username)}",) if self.mounts_secrets else ()

    # -- who may what ---------------------------------------------------------------------

    def project_permission(self, account: SandboxAccount, project: SandboxProject) -> str | None:
        """`owner`, `rw`, `r` or None."""
        if project.owner == account.username:
            return "owner"
        return self.identity.shared_with(account, project.collaborators)

    def may_open(self, account: SandboxAccount, deployment: SandboxDeployment) -> bool:
        if deployment.owner == account.username:
            return True
        return self.identity.shared_with(account, deployment.collaborators) is not None


def folder_name(username: str) -> str:
    return username if re.fullmatch(r"[A-Za-z0-9_@][A-Za-z0-9._@-]{0,63}", username) else digest(username)[:32]
