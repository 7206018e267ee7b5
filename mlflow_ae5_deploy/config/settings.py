"""The settings, typed.

Their descriptions are the documentation: `tools/reference.py` makes reference.yaml, schema.json and
runbooks/reference/settings.md of them. runbooks/explanation/architecture.md has the steps of a new setting.

Settings are frozen and strict: nothing is converted silently, and unknown keys are errors. Problems are raised as
pydantic's; `load` turns them into one Configuration error that repeats no value.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    ValidationInfo,
    field_validator,
    model_validator,
)

from mlflow_ae5_deploy.common.variable_names import DATABASE, GC_TTL
from mlflow_ae5_deploy.config import checks
from mlflow_ae5_deploy.config.database_uri import check_shipped, holds_password, parse_store_uri
from mlflow_ae5_deploy.config.secret_refs import SecretRef
from mlflow_ae5_deploy.config.server_variables import contradictions


# In these, ValueError also for wrong types: pydantic does not collect a TypeError.
def _as_path(value: Any) -> Path | None:
    if value is None or isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError("must be text: the path of a file or folder")
    return Path(value)


def _as_reference(value: Any) -> SecretRef:
    if isinstance(value, SecretRef):
        return value
    if not isinstance(value, str):
        raise ValueError("must be a reference to a secret: env:NAME, file:PATH or prompt")  # noqa: TRY004
    return SecretRef.parse(value)


def _reference_or(kinds: str, check: Callable[[str], str]) -> BeforeValidator:
    """Accept a reference, or a text that `check` accepts."""

    def convert(value: Any) -> SecretRef | str:
        if isinstance(value, SecretRef):
            return value
        if not isinstance(value, str):
            raise ValueError(f"must be {kinds}, or a reference to one: env:NAME, file:PATH or prompt")  # noqa: TRY004
        if value == "prompt" or value.startswith(("env:", "file:")):
            return SecretRef.parse(value)
        return check(value)

    return BeforeValidator(convert)


def _store_uri(value: str) -> str:
    parse_store_uri(value)
    if holds_password(value):
        raise ValueError("contains a password; refer to the whole URI instead: env:NAME, file:PATH or prompt")
    return value


Text = Annotated[str, AfterValidator(checks.text)]
Name = Annotated[str, AfterValidator(checks.name)]
Account = Annotated[str, AfterValidator(checks.account)]
Accounts = Annotated[list[Account], AfterValidator(checks.distinct)]
Groups = Annotated[list[Annotated[str, AfterValidator(checks.group)]], AfterValidator(checks.distinct)]
Location = Annotated[str, AfterValidator(checks.no_password)]
ArtifactLocation = Annotated[str, AfterValidator(checks.check_location)]
Channel = Annotated[str, AfterValidator(checks.channel)]
Channels = Annotated[list[Channel], AfterValidator(checks.distinct)]
CommandName = Annotated[str, AfterValidator(checks.command_name)]
Variables = Annotated[dict[str, str], BeforeValidator(checks.variables)]
ServerVariables = Annotated[dict[str, str], BeforeValidator(checks.server_variables)]
Dependencies = Annotated[dict[str, str], BeforeValidator(checks.dependencies)]
SecretName = Annotated[str, AfterValidator(checks.secret_name)]
FilePath = Annotated[Path, BeforeValidator(_as_path)]
Reference = Annotated[InstanceOf[SecretRef], BeforeValidator(_as_reference)]
OptionalReference = Annotated[InstanceOf[SecretRef], BeforeValidator(_as_reference)] | None
StoreReference = Annotated[InstanceOf[SecretRef] | str, _reference_or("a database URI", _store_uri)]
BackupDestination = Annotated[InstanceOf[SecretRef] | str, _reference_or("a folder, a URI", checks.check_destination)]
Cron = Annotated[str, AfterValidator(checks.cron)]
Count = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Section(BaseModel):
    """Base of every group of settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, use_enum_values=True)


class PlatformSettings(Section):
    """The AE5 cluster, and how to reach it."""

    hostname: Annotated[str, AfterValidator(checks.hostname)] | None = Field(
        default=None,
        description="Host name or address of the platform: ae5.example.com, https://ae5.example.com:8443/.",
    )
    verify_tls: bool = Field(
        default=True,
        description="Verify the platform's TLS certificate. Switch off only for troubleshooting.",
    )
    ca_file: FilePath | None = Field(
        default=None,
        description="Certificate authority of the platform (PEM file), if the system does not trust it.",
    )
    client_cert: FilePath | None = Field(
        default=None,
        description="Client certificate and key in one PEM file, if a proxy in front of the platform requires it.",
    )
    session: Literal["auto", "ae5-tools", "built-in"] = Field(
        default="auto",
        description="Session provider. auto: ae5-tools, and built-in on the sandbox. built-in is for the sandbox only.",
    )
    connect_timeout: Seconds = Field(default=10.0, description="Seconds to wait for a connection.")
    read_timeout: Seconds = Field(default=60.0, description="Seconds to wait for an answer.")
    upload_timeout: Seconds = Field(default=1800.0, description="Seconds an upload or download of a project may take.")
    deployment_deadline: Seconds = Field(
        default=900.0,
        description="Seconds until a deployment must have started and be healthy.",
    )
    endpoint_release_deadline: Seconds = Field(
        default=180.0,
        description="Seconds until a stopped deployment's endpoint must be free (Kubernetes takes 1-2 minutes).",
    )
    lost_answer_deadline: Seconds = Field(
        default=20.0,
        description="Seconds to check whether a change took effect whose answer was lost, before it is sent again.",
    )


class AccountSettings(Section):
    """The service account: the AE5 user that owns the project, the deployment, the secrets and the jobs. Use one
    that is used for nothing else, because AE5 shows all secrets of an account to all its projects."""

    username: Account | None = Field(default=None, description="Name of the service account.")
    password: OptionalReference = Field(
        default=None,
        description="Its password, as a reference: env:NAME, file:PATH or prompt. Not needed with impersonate.",
    )
    impersonate: bool = Field(
        default=False,
        description="Impersonate the service account as an administrator (see admin), without its password.",
    )
    create: bool = Field(default=False, description="Create the account if it is missing (needs admin).")
    email: Annotated[str, AfterValidator(checks.email)] | None = Field(
        default=None,
        description="E-mail address of an account that is created.",
    )
    first_name: Text = Field(default="MLflow", description="First name of an account that is created.")
    last_name: Text = Field(default="Service", description="Last name of an account that is created.")


class AdminSettings(Section):
    """An administrator of the platform's identity provider (Keycloak). Needed to look an account up, to create it,
    and to impersonate it."""

    username: Account | None = Field(default=None, description="Name of the administrator.")
    password: OptionalReference = Field(
        default=None,
        description="Password, as a reference: env:NAME, file:PATH or prompt.",
    )


class ProjectSettings(Section):
    """The project that is uploaded."""

    name: Name = Field(default="mlflow.tracking.server", description="Name of the project.")


class ReleaseSettings(Section):
    """The project archive to install."""

    source: Location = Field(
        default="bundled",
        description="bundled (comes with this tool), latest, X.Y.Z (GitHub or the mirror), an archive's path or a URL.",
    )
    sha256: Annotated[str, AfterValidator(checks.sha256)] | None = Field(
        default=None,
        description="Required checksum of the archive. By default that of the first download is recorded.",
    )
    mirror: Location | None = Field(
        default=None,
        description="Where latest and X.Y.Z come from instead of GitHub, where there is no internet access: an https"
        " address or a folder.",
    )
    cache_dir: FilePath | None = Field(
        default=None,
        description="Folder whose subfolder `releases` stores downloaded archives; null is the state folder.",
    )


class CommandSettings(Section):
    """A command added to anaconda-project.yml, or put in place of the release's. What is left out (null) stays as it
    is in the release's command of that name."""

    unix: Annotated[str, AfterValidator(checks.shell_command)] = Field(
        description="Shell command line, run in the project's folder.",
        examples=["python report.py"],
    )
    env_spec: Text | None = Field(
        default=None,
        description="Environment it runs in (default or minimum in the bundled project); null is the release's, and"
        " default for a new command.",
    )
    supports_http_options: bool | None = Field(
        default=None,
        description="It is a web server: the platform appends its --anaconda-project-... options. null is the"
        " release's, and false for a new command.",
    )
    description: str | None = Field(default=None, description="Its description; null is the release's.")

    @field_validator("supports_http_options")
    @classmethod
    def _takes_options(cls, value: bool | None, info: ValidationInfo) -> bool | None:
        if value and "unix" in info.data:
            checks.accepts_options(info.data["unix"])
        return value


class SlipstreamSettings(Section):
    """Changes made to the release before it is uploaded. All of them end up in the archive, readable by everyone the
    project is shared with: no secrets here."""

    variables: Variables = Field(default={}, description="Defaults of variables in anaconda-project.yml: NAME: value.")
    dependencies: Dependencies = Field(
        default={},
        description="Packages of the project's environments, package: constraint, such as boto3: '>=1.35'. Replaces"
        " the locked version; added where the package is missing.",
    )
    channels: Channels = Field(
        default=[],
        description="Conda channels, put in front of the release's in this order.",
    )
    commands: dict[CommandName, CommandSettings] = Field(
        default={},
        description="Commands to add or replace: NAME: {unix: ...}.",
    )
    overlay: FilePath | None = Field(
        default=None,
        description="Folder of files to add to the project or replace there; null means none.",
    )


class DeploymentSettings(Section):
    """The running server. It is always private: every request needs a token or a signed-in user."""

    name: Name = Field(default="dev.mlflow.tracking.server", description="Name of the deployment.")
    endpoint: Annotated[str, AfterValidator(checks.endpoint)] = Field(
        default="dev-mlflow-tracking-server",
        description="Static endpoint, the first part of the server's address: https://<endpoint>.<hostname>/.",
    )
    command: Text = Field(default="TrackingServer", description="Command of the project that is the server.")
    resource_profile: Text = Field(default="default", description="Resource profile (CPU, memory) of the deployment.")
    revision: Text = Field(default="latest", description="Revision of the project to run.")


class ServerSettings(Section):
    """Settings of the server. These are stored as secrets of the service account before the deployment."""

    backend_store_uri: StoreReference = Field(
        default="sqlite:///data/mlflow/standalone/store/mydb.sqlite",
        description="Database (MLFLOW_BACKEND_STORE_URI): sqlite, postgresql, mysql or mssql, with its driver."
        " A URI with a password must be a reference: env:NAME, file:PATH or prompt.",
    )
    artifacts_destination: ArtifactLocation = Field(
        default="data/mlflow/standalone/artifacts",
        description="Where artifacts are stored (MLFLOW_ARTIFACTS_DESTINATION): a folder, or s3://, gs://, wasbs://.",
    )
    default_artifact_root: ArtifactLocation = Field(
        default="mlflow-artifacts:/",
        description="Where clients find artifacts (MLFLOW_DEFAULT_ARTIFACT_ROOT). mlflow-artifacts:/ is the server.",
    )
    gc_ttl: Annotated[str, AfterValidator(checks.ttl)] = Field(
        default="30d0h0m0s",
        description="Age at which garbage collection purges what clients deleted (MLFLOW_TRACKING_GC_TTL): days,"
        " hours, minutes and seconds, such as 30d0h0m0s.",
    )
    metrics: bool = Field(
        default=False,
        description="Serve metrics for Prometheus at /metrics (MLFLOW_TRACKING_METRICS), behind the token.",
    )
    secrets: dict[SecretName, Reference] = Field(
        default={},
        description="More secrets to store, by reference: AWS_SECRET_ACCESS_KEY: env:AWS_SECRET_ACCESS_KEY. Also"
        " MLflow's keys, instead of generated ones: MLFLOW_CRYPTO_KEK_PASSPHRASE,"
        " MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY.",
    )
    variables: ServerVariables = Field(
        default={},
        description="Variables of MLflow for server and jobs, such as MLFLOW_ENABLE_WORKSPACES: 'true', stored as"
        " secrets. The features of MLflow that they switch on are listed in the reference. A variable that is deleted"
        " here stays stored: set it to 'unset'.",
    )
    key_file: FilePath | None = Field(
        default=None,
        description="File (mode 0600) of the keys that MLflow encrypts LLM keys and webhook secrets with. Made once by"
        " `install`; store a copy elsewhere. null is `keys` in this installation's state folder.",
    )


class GcSettings(Section):
    """The scheduled job that purges what clients deleted."""

    name: Name = Field(default="scheduled mlflow.tracking.server garbage collection", description="Name of the job.")
    command: Text = Field(default="GarbageCollection", description="Command of the project that collects.")
    schedule: Annotated[str, AfterValidator(checks.cron)] = Field(
        default="*/10 * * * *",
        description="When it runs, as cron: minute hour day month weekday, in UTC. A step must divide its field"
        " (*/10, not */8).",
    )
    variables: Variables = Field(
        default={},
        description="Variables of the job. They override secrets and are readable in its record: put no secrets here.",
    )
    resource_profile: Text = Field(default="default", description="Resource profile (CPU, memory) of the job.")


class BackupSettings(Section):
    """Snapshots of database and artifacts: destination, schedule, and how many are kept."""

    destination: BackupDestination = Field(
        default="data/mlflow/standalone/backups",
        description="Where snapshots are stored (MLFLOW_TRACKING_BACKUP_DESTINATION): a folder, or s3://, gs://, abfss://"
        " or az:// with a prefix. Use another volume than that of the data: losing it would lose both. Credentials go"
        " into server.secrets. May be a reference: env:NAME, file:PATH or prompt.",
    )
    schedule: Cron | None = Field(
        default=None,
        description="When a backup is taken, as cron in UTC, such as 30 2 * * *; null schedules none.",
    )
    verify_schedule: Cron | None = Field(
        default=None,
        description="When the newest snapshot is read back and compared, as cron; null never.",
    )
    drill_schedule: Cron | None = Field(
        default=None,
        description="When the newest snapshot is tested by restoring it to a temporary location, as cron; null never.",
    )
    keep_last: Count | None = Field(
        default=None,
        description="Retention: keep the N most recent snapshots. A scheduled backup deletes the others after it has"
        " succeeded; so does `backup prune --yes`. Without keep_last, keep_daily and keep_weekly nothing is deleted.",
    )
    keep_daily: Count | None = Field(default=None, description="Likewise: keep one snapshot per day for N days.")
    keep_weekly: Count | None = Field(default=None, description="Likewise: keep one snapshot per week for N weeks.")
    name: Name = Field(default="scheduled mlflow.tracking.server backup", description="Name of the scheduled job.")
    verify_name: Name = Field(
        default="scheduled mlflow.tracking.server backup verify", description="Name of the job that verifies."
    )
    drill_name: Name = Field(default="scheduled mlflow.tracking.server drill", description="Name of the drill's job.")
    resource_profile: Text = Field(
        default="default",
        description="Resource profile (CPU, memory) of the jobs that back up, restore, rehearse and upgrade.",
    )


class NotifySettings(Section):
    """Messages about failures and recoveries, through apprise: mail, chat, webhooks. From the scheduled jobs, and from
    `status --notify`."""

    urls: list[Reference] = Field(
        default=[],
        description="Receivers (MLFLOW_TRACKING_NOTIFY_URLS), each a reference to a URL of apprise, which holds a"
        " password: env:NAME or file:PATH. Such as mailtos://, slack://, msteams://, json://.",
    )


class SharingSettings(Section):
    """Users and groups with access to the server's web pages. (Programs use the token.)"""

    groups: Groups = Field(default=["everyone"], description="Groups; everyone means every signed-in user.")
    users: Accounts = Field(default=[], description="Single users.")


class ConsumerSettings(Section):
    """Another AE5 account that gets URL and token as secrets, or a file that gets the token."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": ["username"]}, {"required": ["file"]}]})

    username: Account | None = Field(default=None, description="Name of the account.", examples=["jdoe"])
    password: OptionalReference = Field(
        default=None,
        description="Its password, as a reference: env:NAME, file:PATH or prompt. Not needed with an admin.",
    )
    file: FilePath | None = Field(
        default=None,
        description="Instead of an account: a file on this machine that gets the token, such as a scraper's"
        " credentials file (mode 0600, replaced atomically). Its folder must exist.",
    )

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> ConsumerSettings:
        if self.username is None and self.file is None:
            raise ValueError([("username", "is missing (or `file`)")])
        if self.file is not None and (self.username is not None or self.password is not None):
            raise ValueError([("file", "excludes username and password")])
        return self


def _distinct_consumers(consumers: list[ConsumerSettings]) -> list[ConsumerSettings]:
    checks.distinct([consumer.username or str(consumer.file) for consumer in consumers])
    return consumers


class Settings(Section):
    """All settings of one installation."""

    platform: PlatformSettings = PlatformSettings()
    account: AccountSettings = AccountSettings()
    admin: AdminSettings = AdminSettings()
    project: ProjectSettings = ProjectSettings()
    release: ReleaseSettings = ReleaseSettings()
    slipstream: SlipstreamSettings = SlipstreamSettings()
    deployment: DeploymentSettings = DeploymentSettings()
    server: ServerSettings = ServerSettings()
    gc: GcSettings = GcSettings()
    backup: BackupSettings = BackupSettings()
    notify: NotifySettings = NotifySettings()
    sharing: SharingSettings = SharingSettings()
    consumers: Annotated[list[ConsumerSettings], AfterValidator(_distinct_consumers)] = Field(
        default=[],
        description="Other AE5 accounts that also get URL and token as secrets, and files that get the token.",
    )
    state_dir: FilePath | None = Field(
        default=None,
        description="Folder for journal, lock and fingerprints; null is the usual state folder of your account.",
    )

    @property
    def consumer_accounts(self) -> dict[str, SecretRef | None]:
        """Their passwords, by name."""
        return {consumer.username: consumer.password for consumer in self.consumers if consumer.username is not None}

    @property
    def token_files(self) -> list[Path]:
        """The consumers that are files."""
        return [consumer.file for consumer in self.consumers if consumer.file is not None]

    @property
    def server_secrets(self) -> dict[str, str | SecretRef | list[SecretRef]]:
        """The secrets that server and jobs read, by name: value or references.

        Without URL and token, the destination of the backups, and encryption keys that are not configured.
        """
        server = self.server
        return {
            DATABASE: server.backend_store_uri,
            "MLFLOW_ARTIFACTS_DESTINATION": server.artifacts_destination,
            "MLFLOW_DEFAULT_ARTIFACT_ROOT": server.default_artifact_root,
            GC_TTL: server.gc_ttl,
            **({"MLFLOW_TRACKING_METRICS": "true"} if server.metrics else {}),
            **({"MLFLOW_TRACKING_NOTIFY_URLS": self.notify.urls} if self.notify.urls else {}),
            **server.variables,
            **server.secrets,
        }

    @property
    def added_packages(self) -> list[str] | None:
        """Packages added to the bundled project's; None where another release is used."""
        return list(self.slipstream.dependencies) if self.release.source == "bundled" else None

    @model_validator(mode="after")
    def _variables_fit_together(self) -> Settings:
        """Check the server's variables; problems are (path of the setting, text)."""
        variables, secrets = self.server.variables, self.server.secrets
        found = [
            *((name, "is also in server.secrets; keep it in one of them") for name in variables if name in secrets),
            *contradictions(variables, self.slipstream.variables, secrets),
        ]
        if found:
            sections = {name: "server" if name in variables else "slipstream" for name, _ in found}
            raise ValueError([((sections[name], "variables", name), problem) for name, problem in found])
        return self

    @model_validator(mode="after")
    def _drivers_are_there(self) -> Settings:
        """Check the drivers of all database URIs; problems are (path of the setting, text)."""
        added = self.added_packages
        if added is None:
            return self
        uris: list[tuple[tuple[str, ...], Any]] = [
            (("server", "backend_store_uri"), self.server.backend_store_uri),
            (("slipstream", "variables", DATABASE), self.slipstream.variables.get(DATABASE)),
            (("gc", "variables", DATABASE), self.gc.variables.get(DATABASE)),
        ]
        problems = []
        for path, uri in uris:
            try:
                if isinstance(uri, str):
                    check_shipped(parse_store_uri(uri), added)
            except ValueError as error:
                problems.append((path, str(error)))
        if problems:
            raise ValueError(problems)
        return self
