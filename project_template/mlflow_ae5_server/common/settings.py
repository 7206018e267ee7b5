"""Settings: a variable, else an AE5 secret, else the project's default.

AE5 hands the defaults of `anaconda-project.yml` to the command as ordinary environment variables, before this code
runs. So "the environment variable is set" does not tell a default from a variable given to the job or deployment.
The file itself does: an environment value *equal* to the default written there counts as the default, anything else
as a given variable.

The corner case this leaves: a job variable that repeats the project's default exactly, to overrule a secret, is taken
for the default, and the secret wins. Write the value differently then (`30d` instead of `30d0h0m0s`, an absolute
instead of a relative path), or delete the secret.

AE5 refuses to start a command with a variable that has no value at all, so "nothing" is spelled `unset`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from mlflow_ae5_server.common import redaction, yaml_limits
from mlflow_ae5_server.common.errors import Configuration

SECRETS_FOLDER = "/var/run/secrets/user_credentials"
SECRETS_FOLDER_VARIABLE = "MLFLOW_AE5_SECRETS_DIR"
PROJECT_FILES = ("anaconda-project.yml", "anaconda-project.yaml")
UNSET = "unset"

# The defaults of anaconda-project.yml, for a command started without it. A test keeps the two equal.
DEFAULTS: dict[str, str] = {
    "MLFLOW_BACKEND_STORE_URI": "sqlite:///data/mlflow/standalone/store/mydb.sqlite",
    "MLFLOW_ARTIFACTS_DESTINATION": "data/mlflow/standalone/artifacts",
    "MLFLOW_DEFAULT_ARTIFACT_ROOT": "mlflow-artifacts:/",
    "MLFLOW_TRACKING_URI": UNSET,
    "MLFLOW_REGISTRY_URI": UNSET,
    "MLFLOW_TRACKING_TOKEN": UNSET,
    "MLFLOW_TRACKING_SERVER_CERT_PATH": UNSET,
    "MLFLOW_TRACKING_GC_TTL": "30d0h0m0s",
    "MLFLOW_TRACKING_GC_DRY_RUN": "false",
    "MLFLOW_TRACKING_UPGRADE_DRY_RUN": "false",
    "MLFLOW_TRACKING_UPGRADE_REHEARSE": "false",
    "MLFLOW_TRACKING_GC_ORPHANS": "ignore",
    "MLFLOW_TRACKING_GC_INCLUDE_REGISTERED": "false",
    "MLFLOW_TRACKING_BACKUP_DESTINATION": "data/mlflow/standalone/backups",
    "MLFLOW_TRACKING_BACKUP_ARGUMENTS": "create",
    "MLFLOW_TRACKING_RESTORE_ARGUMENTS": "--dry-run",
    "MLFLOW_TRACKING_DRILL_ARGUMENTS": "--snapshot latest",
    "MLFLOW_TRACKING_CHECK_VALUES": UNSET,
    "MLFLOW_TRACKING_NOTIFY_URLS": UNSET,
    "MLFLOW_TRACKING_DATABASE_WAIT": "60",
    "MLFLOW_TRACKING_METRICS": "false",
    "MLFLOW_WORKERS": "auto",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_SERVER_ALLOWED_HOSTS": UNSET,
    "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": UNSET,
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_STORE_URIS = frozenset(
    {"MLFLOW_BACKEND_STORE_URI", "MLFLOW_REGISTRY_STORE_URI", "MLFLOW_READ_REPLICA_BACKEND_STORE_URI"}
)
_LOCATIONS = frozenset(
    {"MLFLOW_ARTIFACTS_DESTINATION", "MLFLOW_DEFAULT_ARTIFACT_ROOT", "MLFLOW_TRACKING_BACKUP_DESTINATION"}
)
NOTIFY_URLS = "MLFLOW_TRACKING_NOTIFY_URLS"
_SENSITIVE = re.compile(r"TOKEN|PASSWORD|PASSPHRASE|SECRET|KEY|CREDENTIAL|CONNECTION_STRING|NOTIFY_URLS")
_NUMBER = r"(\d+(?:\.\d*)?|\.\d+)"
_DURATION = re.compile(rf"(?:{_NUMBER}d)?(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s)?\Z")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


@dataclass(frozen=True)
class Setting:
    name: str
    value: str | None  # None where it is unset
    source: str  # "variable", "secret" or "default"
    sensitive: bool

    def shown(self) -> str:
        if self.value is None:
            return "(unset)"
        return "(not shown)" if self.sensitive else redaction.scrub(self.value)


class Settings(dict[str, Setting]):
    """All settings, by name."""

    def value(self, name: str) -> str | None:
        setting = self.get(name)
        return setting.value if setting else None

    def required(self, name: str, hint: str = "set it to the server's value") -> str:
        """Raises Configuration where it is unset or empty."""
        value = self.value(name)
        if not value:
            raise Configuration(f"{name} is not set", hint)
        return value

    def flag(self, name: str) -> bool:
        """A yes/no setting; Configuration for anything that is neither."""
        value = (self.value(name) or "false").strip().lower()
        if value in {"true", "1", "yes", "on"}:
            return True
        if value in {"false", "0", "no", "off"}:
            return False
        raise Configuration(f"{name} is {value!r}, which is neither true nor false", f"set {name} to true or false")

    def seconds(self, name: str) -> float:
        """A duration in seconds, not negative; Configuration otherwise."""
        value = self.value(name) or "0"
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not 0 <= number < float("inf"):
            raise Configuration(f"{name} is {value!r}, which is not a number of seconds", f"set {name} to 60, say")
        return number

    def duration(self, name: str) -> timedelta:
        """A duration in MLflow's form `#d#h#m#s`. Raises Configuration.

        MLflow accepts an empty text as "no age at all", and reads `1..5d` until it crashes; both are refused here.
        """
        value = self.value(name) or ""
        match = _DURATION.match(value)
        if not value or not match:
            raise Configuration(
                f"{name} is {value!r}, which is not a duration MLflow understands",
                "write it as #d#h#m#s, numbers may have decimals: 30d0h0m0s, 12h, 1.5d",
            )
        days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
        try:
            return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        except OverflowError:
            raise Configuration(f"{name} is {value!r}, which is too long") from None

    def table(self) -> str:
        """One line per setting with its source; values only where they are not sensitive."""
        width = max(len(name) for name in self)
        lines = ["settings (a variable beats a secret, a secret beats the project's default):"]
        lines += [f"  {s.name:{width}}  {s.source:8}  {s.shown()}" for s in sorted(self.values(), key=lambda s: s.name)]
        return "\n".join(lines)

    def apply(self, environ: MutableMapping[str, str]) -> None:
        """Write the settings into `environ`, for MLflow and storage clients."""
        for setting in self.values():
            if setting.value is None:
                environ.pop(setting.name, None)
            else:
                environ[setting.name] = setting.value


def resolve(environ: Mapping[str, str], project_defaults: Mapping[str, str], secrets: Mapping[str, str]) -> Settings:
    """Decide value and source of every setting."""
    resolved = {}
    for name in {*DEFAULTS, *project_defaults, *secrets, *(_STORE_URIS & environ.keys())}:
        default = project_defaults.get(name, DEFAULTS.get(name))
        given = environ.get(name)
        value: str | None
        if given and given != default:
            value, source = given, "variable"
        elif name in secrets:
            value, source = secrets[name], "secret"
        else:
            value, source = default, "default"
        if value is not None and value.strip().lower() in {"", UNSET}:
            value = None
        resolved[name] = Setting(name, value, source, _is_sensitive(name, value, source))
    return Settings(resolved)


def _is_sensitive(name: str, value: str | None, source: str) -> bool:
    if name in _STORE_URIS:
        return not (value or "").startswith("sqlite:")
    return bool(_SENSITIVE.search(name)) or (source == "secret" and not _is_public_variable(name, value))


def _is_public_variable(name: str, value: str | None) -> bool:
    """Whether a secret of this name may be shown: a setting of this project, or one of MLflow without a login in it.

    The tool stores settings as secrets, too, because server and jobs read those.
    """
    return name in DEFAULTS or (name.startswith("MLFLOW_") and not re.search("[?@]", value or ""))


def read_secrets(folder: Path) -> dict[str, str]:
    """The account's secrets: one file each, without the trailing newline.

    A certificate and a configuration of trace archival are replaced by the path of their file, which MLflow expects.
    """
    secrets: dict[str, str] = {}
    if not folder.is_dir():
        return secrets
    for file in sorted(folder.iterdir()):
        if not _VARIABLE_NAME.match(file.name) or not file.is_file():
            continue
        try:
            value = file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise Configuration(f"the secret {file.name} cannot be read: {type(error).__name__}") from None
        if file.name in {"MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE"} and "-----BEGIN" in value:
            value = str(file)
        if file.name == "MLFLOW_TRACE_ARCHIVAL_CONFIG" and value.lstrip().startswith("trace_archival:"):
            value = str(file)
        secrets[file.name] = value
    return secrets


def read_project_defaults(folder: Path) -> dict[str, str]:
    """The defaults of the project file in `folder`; none without a file."""
    for name in PROJECT_FILES:
        file = folder / name
        if file.is_file():
            break
    else:
        return {}
    try:
        document = yaml_limits.load(file) or {}
    except OSError as error:
        raise Configuration(f"{name} cannot be read: {error.strerror}") from None
    except yaml_limits.UnfitYaml as error:
        raise Configuration(f"{name} {error}") from None
    defaults = {}
    variables = document.get("variables") if isinstance(document, dict) else None
    for key, entry in (variables if isinstance(variables, dict) else {}).items():  # a list has names without defaults
        value = entry.get("default") if isinstance(entry, dict) else entry
        if value is not None:
            defaults[str(key)] = str(value)
    return defaults


def project_folder(environ: Mapping[str, str]) -> Path:
    """PROJECT_DIR if it holds a project file, else the current folder."""
    named = environ.get("PROJECT_DIR", "")
    if named and any((Path(named) / name).is_file() for name in PROJECT_FILES):
        return Path(named)
    return Path.cwd()


def load(environ: MutableMapping[str, str]) -> Settings:
    """Resolve all settings, register secrets, and write them into `environ`."""
    secrets = read_secrets(Path(environ.get(SECRETS_FOLDER_VARIABLE) or SECRETS_FOLDER))
    settings = resolve(environ, read_project_defaults(project_folder(environ)), secrets)
    redaction.exempt(str(project_folder(environ)), str(Path.cwd()))
    for setting in settings.values():
        if setting.value is None:
            continue
        if not setting.sensitive and not re.search("[?@]", setting.value):
            redaction.exempt(setting.value, setting.value.removeprefix("sqlite:///"))
        if setting.name in _STORE_URIS:
            redaction.register_uri(setting.value)
        elif setting.name in _LOCATIONS:
            redaction.register_login(setting.value)
        elif setting.sensitive:
            redaction.register(setting.value)
            if setting.name == NOTIFY_URLS:
                for url in setting.value.split():
                    redaction.register(url)
            redaction.register_uri(setting.value)
    for name, value in environ.items():
        if _SENSITIVE.search(name) and name.startswith(("MLFLOW_", "AWS_", "AZURE_", "GOOGLE_")):
            redaction.register(value)
    settings.apply(environ)
    return settings
