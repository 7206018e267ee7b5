"""The runbook for one configuration: 14 steps in Markdown, each with its equivalent `ae5` command.

No secret is in it: where a command needs one, a shell variable stands that the reader sets.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_ae5_deploy.common.durations import parse_ttl
from mlflow_ae5_deploy.common.optional_packages import CREATE_ENVIRONMENT
from mlflow_ae5_deploy.common.redaction import scrub

if TYPE_CHECKING:
    from mlflow_ae5_deploy.config.settings import Settings
    from mlflow_ae5_deploy.render.console import Reporter


@dataclass(frozen=True)
class Step:
    """One step: what it achieves, the commands, and a caution about doing it by hand."""

    title: str
    purpose: str
    commands: tuple[str, ...] = ()
    caution: str = ""


def runbook(settings: Settings, *, schedule_words: str) -> str:
    """The whole document. schedule_words: the garbage collection's cron in words."""
    host, account = settings.platform.hostname or "<host>", settings.account.username or "<account>"
    lines = [
        f"# MLflow tracking server on {host}",
        "",
        f"What `mlflow-ae5-deploy install` does for this configuration, step by step, with the `ae5` command for each. "
        f"Everything runs as the account `{account}`. Secrets are not shown: commands use shell "
        "variables of the same name.",
    ]
    for number, step in enumerate(_steps(settings, schedule_words), start=1):
        lines += ["", f"## {number}. {step.title}", "", step.purpose]
        if step.commands:
            lines += ["", "```sh", *step.commands, "```"]
        if step.caution:
            lines += ["", f"> {step.caution}"]
    return scrub("\n".join(lines) + "\n")


def show(reporter: Reporter, text: str) -> None:
    """Commands as they are; the rest is wrapped on a terminal."""
    commands = False
    for line in text.rstrip("\n").split("\n"):
        commands ^= line.startswith("```")
        quote = "> " if line.startswith("> ") else ""
        if commands:
            reporter.copied(line)
        else:
            reporter.hanging(quote, line.removeprefix(quote))


def _steps(settings: Settings, schedule_words: str) -> Sequence[Step]:
    return (
        *_prepare(settings),
        *_project(settings),
        *_serve(settings),
        *_tokens(settings),
        _collect(settings, schedule_words),
    )


def _prepare(settings: Settings) -> Sequence[Step]:
    account, host = settings.account.username or "<account>", settings.platform.hostname or "<host>"
    email = settings.account.email or f"{account}@{host.split(':')[0]}"
    create = _ae5(
        "user create",
        *("--username", account, "--email", email),
        *("--firstname", settings.account.first_name, "--lastname", settings.account.last_name),
        *("--enabled", "true", "--email-verified", "true", "--password-temporary", "false"),
    )
    trust = settings.platform.ca_file
    environment = [f"export AE5_HOSTNAME={shlex.quote(host)}", f"export AE5_USERNAME={shlex.quote(account)}"]
    if settings.admin.username is not None:
        environment += [f"export AE5_ADMIN_USERNAME={shlex.quote(settings.admin.username)}"]
    if settings.account.impersonate:
        environment += ["export AE5_IMPERSONATE=true"]
    environment += [f"export REQUESTS_CA_BUNDLE={shlex.quote(str(trust))}" if trust else "export AE5_TLS_VERIFY=true"]
    return (
        Step(
            "Service account",
            f"`{account}` exists, is enabled and is used for nothing else: all its projects see all its secrets.",
            # ae5 takes AE5_USERNAME, which step 3 exports, for one more --username.
            (f"env -u AE5_USERNAME {create}", _ae5("user list", "--filter", f"username={account}")),
            "Do this after step 2 and the `export` lines of step 3. It needs an administrator: export "
            "AE5_ADMIN_USERNAME and AE5_ADMIN_PASSWORD. `user create` takes the password as an option, visible "
            "in the process list; `mlflow-ae5-deploy install --create-account` does not expose it.",
        ),
        Step(
            "Environment",
            "A conda environment with ae5-tools.",
            (CREATE_ENVIRONMENT, "conda activate mlflow-ae5-deploy", "ae5 --version"),
        ),
        Step(
            "Login",
            "Act as the service account, by its own password or as an administrator who impersonates it.",
            (*environment, "ae5 login"),
            "ae5-tools verifies TLS certificates only with the setting above.",
        ),
    )


def _project(settings: Settings) -> Sequence[Step]:
    release = settings.release
    changes = settings.slipstream
    options = [
        f"{len(part)} {what}"
        for part, what in (
            (changes.variables, "variables"),
            (changes.dependencies, "dependencies"),
            (changes.channels, "channels"),
            (changes.commands, "commands"),
        )
        if part
    ]
    if changes.overlay:
        options.append(f"the files of {changes.overlay}")
    where, unpack = _release(release.source)
    return (
        Step(
            "Release",
            f"The release is `{release.source}`"
            + (f", from the mirror {release.mirror}" if release.mirror else "")
            + (f", SHA-256 `{release.sha256}`." if release.sha256 else ".")
            + where,
        ),
        Step(
            "Slip-stream",
            "Unpack, change and repack it: "
            + (", ".join(options) if options else "this configuration changes nothing")
            + ".",
            (unpack, "$EDITOR project/anaconda-project.yml", "tar czf project.tar.gz --exclude __pycache__ project"),
            "Exactly one folder at the top, and no `data/` folder in it.",
        ),
        Step(
            "Upload",
            f"The project `{settings.project.name}`.",
            (_ae5("project upload", "--name", settings.project.name, "project.tar.gz"),),
            "AE5 refuses an upload under an existing name. To replace a project, stop the deployment, delete the "
            "project, and repeat all steps from here.",
        ),
        Step(
            "Recovery",
            "Only after a disaster: restore database and artifacts before the server first starts. "
            "`mlflow-ae5-deploy restore` does this and all other steps. By hand: set the secrets of step 8 first, and "
            "MLFLOW_TRACKING_BACKUP_DESTINATION; then run the command `Restore` once, as a job with the variable "
            'MLFLOW_TRACKING_RESTORE_ARGUMENTS="--snapshot latest", and wait until its last line says `done`.',
        ),
    )


def _release(source: str) -> tuple[str, str]:
    """(a sentence on where its files are, the command that unpacks them into the folder `project`)."""
    if source == "bundled":
        return (
            " It is part of this tool: the folder `project_template` of its repository. `mlflow-ae5-deploy install` "
            "keeps the archive it builds as `archives/<sha256>.tar.gz` in the folder of the installation, below the "
            "state folder; it can be uploaded in step 6 as it is, without step 5."
        ), "cp -r project_template project"
    if "://" in source:
        where, file = " Download it.", source.partition("?")[0].rpartition("/")[2] or "release.tar.gz"
    elif "/" in source or source.endswith((".gz", ".tgz", ".tar")):
        where, file = "", source
    else:
        version = "X.Y.Z" if source == "latest" else source.removeprefix("v")
        file = f"mlflow.tracking.server.{version}.tar.gz"
        where = f" Its file is `{file}`."
    return where, f"mkdir project && tar xzf {shlex.quote(file)} -C project --strip-components 1"


_KEYS = {
    name: f"""{name}="$(python3 -c '{program}')\""""
    for name, program in (
        ("MLFLOW_CRYPTO_KEK_PASSPHRASE", "import secrets; print(secrets.token_urlsafe(32))"),
        (
            "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY",
            "import base64, os; print(base64.urlsafe_b64encode(os.urandom(32)).decode())",
        ),
    )
}


def _serve(settings: Settings) -> Sequence[Step]:
    deployment, project, account = settings.deployment, settings.project.name, settings.account.username or "<account>"
    stored = [
        *(_secret(name, value) for name, value in settings.server_secrets.items()),
        *(
            line
            for name, make in _KEYS.items()
            if name not in settings.server.secrets
            for line in (make, _secret(name, None))
        ),
    ]
    identifier = f"{account}/{project}" + ("" if deployment.revision == "latest" else f":{deployment.revision}")
    start = _ae5(
        "project deploy",
        *("--name", deployment.name, "--endpoint", deployment.endpoint, "--command", deployment.command),
        *("--resource-profile", deployment.resource_profile, "--private", "--wait", identifier),
    )
    info = _ae5("deployment info", "--format", "json", f"{account}/{deployment.name}")
    read_url = """python3 -c 'import json, sys; print(json.load(sys.stdin)["url"].rstrip("/"))'"""
    return (
        Step(
            "Deploy",
            "Secrets first, because a running server does not see new ones; then the server, private, on its endpoint. "
            "Make the two keys once, and keep a copy of both in a safe place: they encrypt what users enter.",
            (*stored, start),
            "A secret's value on a command line is visible in the process list. After a stop the endpoint may stay "
            "taken for one or two minutes.",
        ),
        Step("Endpoint URL", "The public URL of the deployment.", (f'URL="$({info} | {read_url})"', 'echo "$URL"')),
        Step(
            "Store the URL",
            "For the garbage collection, and for every consumer.",
            ('ae5 secret add MLFLOW_TRACKING_URI "$URL"', 'ae5 secret add MLFLOW_REGISTRY_URI "$URL"'),
        ),
    )


def _tokens(settings: Settings) -> Sequence[Step]:
    deployment, account = settings.deployment, settings.account.username or "<account>"
    name = f"{account}/{deployment.name}"
    consumers = ", ".join(f"`{username}`" for username in settings.consumer_accounts)
    files = [shlex.quote(str(file)) for file in settings.token_files]
    shares = [_ae5("deployment collaborator add", "--group", name, group) for group in settings.sharing.groups]
    shares += [_ae5("deployment collaborator add", name, user) for user in settings.sharing.users]
    return (
        Step(
            "Token",
            "An access token of this deployment. Every restart invalidates it.",
            (f"{_ae5('deployment token', name)}   # put what it prints into the shell variable MLFLOW_TRACKING_TOKEN",),
        ),
        Step(
            "Store the token",
            f"For `{account}`"
            + (f", and again as each consumer: {consumers}." if consumers else ".")
            + (" Consumers that are files on this machine get it too." if files else ""),
            (
                'ae5 secret add MLFLOW_TRACKING_TOKEN "$MLFLOW_TRACKING_TOKEN"',
                *(
                    f'(umask 077; printf %s "$MLFLOW_TRACKING_TOKEN" > {file}.new && mv {file}.new {file})'
                    for file in files
                ),
            ),
            "A secret's value on a command line is visible in the process list.",
        ),
        Step("Sharing", "Users and groups that may open the server's web page.", tuple(shares)),
    )


def _collect(settings: Settings, schedule_words: str) -> Step:
    gc, account = settings.gc, settings.account.username or "<account>"
    variables = [word for name, value in gc.variables.items() for word in ("--variable", f"{name}={value}")]
    command = _ae5(
        "job create",
        *("--name", gc.name, "--command", gc.command, "--schedule", gc.schedule),
        *("--resource-profile", gc.resource_profile, *variables, f"{account}/{settings.project.name}"),
    )
    parse_ttl(settings.server.gc_ttl)
    return Step(
        "Garbage collection",
        f"{schedule_words} (UTC, as far as is known). Purges what was deleted more than {settings.server.gc_ttl} ago.",
        (command,),
        "A job cannot be changed (`ae5 job patch` fails): delete it and its runs, then create it again.",
    )


def _secret(name: str, value: object) -> str:
    """A reference shows as a shell variable of the same name."""
    return _ae5("secret add", name, value) if isinstance(value, str) else f'ae5 secret add {name} "${name}"'


def _ae5(command: str, *words: object) -> str:
    return " ".join(["ae5", command, *(shlex.quote(str(word)) for word in words)])
