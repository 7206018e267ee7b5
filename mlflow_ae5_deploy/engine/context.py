"""What the stages of one run share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mlflow_ae5_deploy.ae5.access import Access
from mlflow_ae5_deploy.ae5.cache import PlatformCache
from mlflow_ae5_deploy.ae5.client import Client
from mlflow_ae5_deploy.ae5.models import Deployment
from mlflow_ae5_deploy.common.clock import Clock, Deadline, poll_until
from mlflow_ae5_deploy.common.errors import DeadlineExceeded
from mlflow_ae5_deploy.common.mlflow_api import Health, ServerApi
from mlflow_ae5_deploy.common.redaction import Secret
from mlflow_ae5_deploy.config.secret_refs import SecretResolver
from mlflow_ae5_deploy.config.settings import Settings
from mlflow_ae5_deploy.engine.change import Change
from mlflow_ae5_deploy.engine.journal import Journal
from mlflow_ae5_deploy.engine.progress import Progress
from mlflow_ae5_deploy.engine.state import SavedState

if TYPE_CHECKING:
    from mlflow_ae5_deploy.release.models import BuiltArchive, Release

T = TypeVar("T")


@dataclass(frozen=True)
class RestoreRequest:
    """What stage 7 is to restore."""

    snapshot: str = "latest"  # an id, or `latest`
    _: KW_ONLY
    replace: bool = False  # move data that is there to a saved copy
    undo: bool = False  # bring back a saved copy instead
    stop_server: bool = False  # a server on the data may be stopped
    wait: float = 14400.0  # seconds the job may take
    saved_copy: str | None = None  # which one to bring back; None for that of the last restore
    shorten_text: bool = False  # shorten free text that another kind of database cannot hold

    def names(self, snapshot: str) -> bool:
        """Whether `snapshot` is the requested one: the latest, by its id, or by the end of it."""
        return self.snapshot in ("latest", snapshot) or snapshot.endswith(f"-{self.snapshot}")

    @property
    def requested(self) -> str:
        return " ".join(self.job_words) if self.undo else self.snapshot

    @property
    def again(self) -> str:
        """The options of `restore` that restore it over present data."""
        chosen = "" if self.snapshot == "latest" else f"--snapshot {self.snapshot} "
        return f"{chosen}--replace --stop-server"

    @property
    def options(self) -> str:
        """The options of `restore` that resume it."""
        return " ".join(self.job_words).removeprefix("--snapshot latest").strip()

    @property
    def job_words(self) -> tuple[str, ...]:
        """The options of the job that does this."""
        if self.undo:
            return ("--undo", "--saved", self.saved_copy) if self.saved_copy is not None else ("--undo",)
        chosen = {"--replace": self.replace, "--shorten-text": self.shorten_text}
        return ("--snapshot", self.snapshot, *(word for word, given in chosen.items() if given))


@dataclass(frozen=True)
class RunOptions:
    """What the command line requests beyond the configuration."""

    create_account: bool = False
    replace_keys: bool = False  # stored keys may be replaced, see encryption_keys.py
    consent: Callable[[Sequence[Change]], bool] = field(default=lambda _changes: False)  # asks; True means yes
    consent_options: Mapping[type[Change], str] = field(default_factory=dict)  # of the verb; --yes confirms all
    interactive: bool = False  # a person can answer
    dry: bool = False
    restore: RestoreRequest | None = None


@dataclass
class StageOutputs:
    """What earlier stages have observed and done, for later ones."""

    release: Release | None = None
    built: BuiltArchive | None = None
    deployment: Deployment | None = None
    health: dict[str, Health] = field(default_factory=dict)  # by URL; see resources/health.py
    url: str | None = None
    token: Secret | None = None
    token_deployment: str | None = None
    kept_archives: list[Path] = field(default_factory=list)
    restored: Mapping[str, Any] | None = None  # message and report of the restore job
    stopped_server: bool = False  # for a restore
    stopped_job: str = ""  # the purpose of a job that was stopped before its end
    restart_planned: bool = False  # in a plan: what belongs to the deployment is made again
    down_since: float | None = None  # by Clock.monotonic; of a server that this run has stopped
    downtime: float | None = None  # seconds until the next server was healthy
    no_server: str = ""  # a sentence for an interrupted run that leaves no server; empty while one may run
    token_issued: datetime | None = None
    warnings: list[str] = field(default_factory=list)  # of jobs, see Context.warn
    keys_made: bool = False  # in this run, so nobody has a copy yet


@dataclass(frozen=True)
class Folders:
    state: Path  # of the installation: state, journal, lock, archives
    scratch: Path  # deleted at the end of the run
    cache: Path  # downloaded releases


@dataclass
class Context:
    """What the functions of one run share."""

    settings: Settings
    options: RunOptions
    access: Access
    cached: PlatformCache
    state: SavedState
    journal: Journal
    values: SecretResolver
    clock: Clock
    folders: Folders
    progress: Progress
    outputs: StageOutputs = field(default_factory=StageOutputs)

    @property
    def platform(self) -> Client:
        return self.access.platform()

    @property
    def account(self) -> str:
        return self.access.account

    def server(self, url: str, token: Secret | None) -> ServerApi:
        """The MLflow server at `url`, with the platform's TLS trust and timeouts."""
        options = self.access.target.options
        timeout = (options.connect_timeout, options.read_timeout)
        return ServerApi(url, token, ca_file=options.ca_file, verify_tls=options.verify_tls, timeout=timeout)

    def poll(self, probe: Callable[[], T | None], waiting_for: str, seconds: float, remedy: str = "") -> T:
        """See poll_until; with the run's clock and progress display."""
        deadline = Deadline(self.clock, seconds)
        return poll_until(
            probe, waiting_for=waiting_for, deadline=deadline, on_wait=self.progress.waiting, remedy=remedy
        )

    def shows_up(self, probe: Callable[[], T | None], waiting_for: str) -> T | None:
        """Wait for what an interrupted run may have just created; None where it does not show in time."""
        try:
            return self.poll(probe, waiting_for, self.settings.platform.lost_answer_deadline)
        except DeadlineExceeded:
            return None

    def warn(self, texts: Sequence[str]) -> None:
        """Show each warning now, and once in a run; it is in the run's JSON, too."""
        for text in texts:
            if text not in self.outputs.warnings:
                self.outputs.warnings.append(text)
                self.progress.warning(text)

    def token_for(self, deployment_id: str) -> Secret:
        """A token of this deployment: issued once in a run, never written to disk."""
        if self.outputs.token is None or self.outputs.token_deployment != deployment_id:
            self.outputs.token_issued = self.clock.now()
            self.outputs.token = self.platform.issue_token(deployment_id)
            self.outputs.token_deployment = deployment_id
            self.journal.effect("issue", "token of deployment", id=deployment_id)
        return self.outputs.token

    def store_secrets(self, platform: Client, account: str, values: Mapping[str, Secret]) -> None:
        """Write secrets, and record their fingerprints and the effect."""
        platform.put_secrets(values)
        self.state.record_secrets(account, values, self.clock.now())
        self.journal.effect("set", "secrets", ", ".join(values), account=account)
        if account == self.account:
            self.cached.saw_secrets(values)
