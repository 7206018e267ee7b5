"""Prepare a project for running: its files, environment and command line."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from mlflow_ae5_deploy.sandbox.archives import PROJECT_FILE, unpack
from mlflow_ae5_deploy.sandbox.core import SandboxCore
from mlflow_ae5_deploy.sandbox.errors import ApiError
from mlflow_ae5_deploy.sandbox.models import SandboxProcess
from mlflow_ae5_deploy.sandbox.project_file import (
    SandboxHttpOptions,
    SandboxProjectFile,
    read_project_file,
    shell_line,
    unset_variables,
)

STORAGE_URL = "http://anaconda-enterprise-ap-storage/projects"
NOTICE = "[sandbox] Commands run with {python} and its packages; the environment {spec!r} is not created or checked."
READY = "The project is ready to run commands."
NO_MOUNT = (
    "[sandbox] /var/run/secrets/user_credentials is not mounted; the secrets are in the folder MLFLOW_AE5_SECRETS_DIR."
)
_INHERITED = ("LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")


class WorkloadError(Exception):
    """The command cannot be started; the text goes to the application's log."""


@dataclass(frozen=True)
class Workload:
    line: str
    cwd: Path
    env: dict[str, str]
    notices: tuple[str, ...]


def prepare(core: SandboxCore, item: SandboxProcess, options: SandboxHttpOptions | None) -> Workload:
    """Unpack a revision and build its environment. Blocking. Raises WorkloadError."""
    project = core.state.projects.get(item.project_id)
    if project is None:
        raise WorkloadError("the project was deleted")
    home = core.folder("work", item.hex)
    folder = home / "project"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        unpack(core.archive(project, item.resolved_revision), folder)
        project_file = read_project_file(folder / PROJECT_FILE)
    except ApiError as error:
        raise WorkloadError(error.reason) from error
    command = project_file.command(item.command)
    if command is None or "unix" not in command:
        raise WorkloadError(f"the command {item.command!r} has no `unix` line to run here")
    if command["env_spec"] not in project_file.env_specs:
        raise WorkloadError(f"the env_spec {command['env_spec']!r} of {item.command!r} is not defined")
    notices = [NOTICE.format(python=sys.executable, spec=command["env_spec"]), *_link_data(core, item, folder)]
    if not core.mounts_secrets:
        notices.append(NO_MOUNT)
    env = _environment(core, item, folder, project_file)
    missing = unset_variables(project_file, env)
    if missing:
        lines = [f"missing requirement to run this project: {n} environment variable must be set." for n in missing]
        raise WorkloadError("\n".join(lines))
    return Workload(shell_line(command, options, env), folder, env, (*notices, READY))


def _link_data(core: SandboxCore, item: SandboxProcess, folder: Path) -> list[str]:
    """Link `data` to the account's volume, unless the project has files there."""
    link = folder / "data"
    if link.is_dir() and not link.is_symlink() and any(link.iterdir()):
        return ["[sandbox] The project has a `data` folder of its own, whose content is lost at a restart."]
    if link.is_dir() and not link.is_symlink():
        link.rmdir()
    link.unlink(missing_ok=True)
    link.symlink_to(core.volume(item.owner), target_is_directory=True)
    return []


def _environment(
    core: SandboxCore, item: SandboxProcess, folder: Path, project_file: SandboxProjectFile
) -> dict[str, str]:
    bundle = str(core.state_dir / "ca-bundle.pem")
    env = {name: os.environ[name] for name in _INHERITED + _PROXIES if name in os.environ}
    env |= {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "HOME": str(core.folder("work", item.hex, "home")),
        "NO_PROXY": "localhost,127.0.0.1",
        "no_proxy": "localhost,127.0.0.1",
        "SSL_CERT_FILE": bundle,
        "REQUESTS_CA_BUNDLE": bundle,
        "CURL_CA_BUNDLE": bundle,
        "APP_SOURCE": f"{STORAGE_URL}/{item.project_id[3:]}/archive/{item.revision}",
        "MLFLOW_AE5_SANDBOX": "1",
        "MLFLOW_AE5_SECRETS_DIR": str(core.secrets_folder(item.owner)),
    }
    env |= item.variables
    for name, default in project_file.variables.items():
        if not env.get(name) and default:
            env[name] = default
    return env | {"PROJECT_DIR": str(folder)}


def discard(core: SandboxCore, item: SandboxProcess) -> None:
    """Remove the unpacked files. Blocking."""
    shutil.rmtree(core.state_dir / "work" / item.hex, ignore_errors=True)
