"""The project template that comes with this tool."""

from __future__ import annotations

import re
from pathlib import Path

from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.release.project_file import PROJECT_FILE

SERVER_PACKAGE = "mlflow_ae5_server"
_VERSION = re.compile(r"""^__version__\s*(?::\s*\w+\s*)?=\s*["']([^"']+)["']""", re.MULTILINE)


def template_dir(package: Path | None = None) -> Path:
    """The template's folder: inside an installed package, next to it in a checkout.

    Wheels carry it as `_project_template`; an editable install leaves such forced files out.
    """
    package = package or Path(__file__).resolve().parent.parent
    for folder in (package / "_project_template", package.parent / "project_template"):
        if (folder / PROJECT_FILE).is_file():
            return folder
    raise Configuration(
        "The bundled project template is missing: the installation of mlflow-ae5-deploy is incomplete.",
        where=str(package),
        remedy="Install mlflow-ae5-deploy again.",
    )


def bundled_version(folder: Path | None = None) -> str:
    """The template's version, read as text: its package is not importable here."""
    source = (folder or template_dir()) / SERVER_PACKAGE / "__init__.py"
    try:
        found = _VERSION.search(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise Configuration(f"The template's version cannot be read: {error.strerror}.", where=str(source)) from None
    if found is None:
        raise Configuration("The template does not state its version (__version__).", where=str(source))
    return found.group(1)
