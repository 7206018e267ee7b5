"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlflow_ae5_deploy.cli import completion

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        readable=False,  # not checked here: the loader says it in the words, and with the code, of a configuration
        help="Configuration file. Default: mlflow-ae5-deploy.yaml here, if there is one.",
    ),
]
Profile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        "-p",
        autocompletion=completion.profiles,
        help="Profile of the configuration, such as dev or prod.",
    ),
]
Sandbox = Annotated[
    bool, typer.Option("--sandbox", help="Work on the local platform instead of a cluster; started if need be.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]
Hostname = Annotated[str | None, typer.Option("--hostname", help="Platform host, overriding the configuration.")]
Username = Annotated[str | None, typer.Option("--username", help="Service account, overriding the configuration.")]
SessionKind = Annotated[
    str | None,
    typer.Option(
        "--session",
        autocompletion=completion.one_of(completion.SESSIONS),
        help="Session provider: auto, ae5-tools, or built-in (sandbox only).",
    ),
]
Release = Annotated[
    str | None,
    typer.Option(
        "--release",
        autocompletion=completion.releases,
        help="bundled, latest, X.Y.Z, an archive's path or an https URL. Default: bundled.",
    ),
]
Database = Annotated[
    str | None,
    typer.Option(
        "--database",
        autocompletion=completion.one_of(completion.DATABASES),
        help="With --sandbox: the server's database, sqlite or postgresql.",
    ),
]
CreateAccount = Annotated[
    bool, typer.Option("--create-account", help="Create the service account if it does not exist (admin credentials).")
]
Traceback = Annotated[bool, typer.Option("--traceback", help="Show the Python traceback of an error.")]
