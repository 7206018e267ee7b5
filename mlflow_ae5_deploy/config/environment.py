"""Environment variables that are settings, with ae5-tools' names and meanings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlflow_ae5_deploy.config.problems import ENVIRONMENT, Problem

CONFIG_VARIABLE = "MLFLOW_AE5_DEPLOY_CONFIG"
DEFAULT_FILE = "mlflow-ae5-deploy.yaml"  # in the present folder, where neither flag nor variable names one
STATE_VARIABLE = "MLFLOW_AE5_DEPLOY_STATE"
CA_VARIABLE = "REQUESTS_CA_BUNDLE"

_YES = frozenset({"1", "true", "yes", "on"})
_NO = frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True)
class EnvironmentName:
    variable: str
    path: tuple[str, ...]
    kind: str = "text"  # text | flag (a boolean) | reference (a secret, referred to by its name)


NAMES = (
    EnvironmentName("AE5_HOSTNAME", ("platform", "hostname")),
    EnvironmentName("AE5_USERNAME", ("account", "username")),
    EnvironmentName("AE5_PASSWORD", ("account", "password"), "reference"),
    EnvironmentName("AE5_ADMIN_USERNAME", ("admin", "username")),
    EnvironmentName("AE5_ADMIN_PASSWORD", ("admin", "password"), "reference"),
    EnvironmentName("AE5_IMPERSONATE", ("account", "impersonate"), "flag"),
    EnvironmentName("AE5_TLS_VERIFY", ("platform", "verify_tls"), "flag"),
    EnvironmentName("AE5_CLIENT_CERT_PATH", ("platform", "client_cert")),
    EnvironmentName(STATE_VARIABLE, ("state_dir",)),
)


def read_environment(
    environ: Mapping[str, str], *, sandbox: bool
) -> tuple[list[tuple[EnvironmentName, Any]], list[Problem]]:
    """Values by name, and problems. An empty variable counts as not set.

    With `sandbox`, what is meant for a real platform is not looked at.
    """
    values: list[tuple[EnvironmentName, Any]] = []
    problems: list[Problem] = []
    for name in NAMES:
        raw = environ.get(name.variable, "")
        if not raw or (sandbox and name.variable != STATE_VARIABLE):
            continue
        if name.kind == "reference":
            values.append((name, f"env:{name.variable}"))
        elif name.kind == "text":
            values.append((name, raw))
        elif (flag := as_flag(raw, letters=name.variable == "AE5_IMPERSONATE")) is not None:
            values.append((name, flag))
        else:
            problems.append(
                Problem(
                    name.path,
                    "must be one of true, false, 1, 0, yes, no, on, off",
                    f"{ENVIRONMENT}{name.variable}",
                )
            )
    return values, problems


def as_flag(raw: str, *, letters: bool) -> bool | None:
    """True, False, or None for what is not understood.

    ae5-tools reads AE5_IMPERSONATE with click, which knows these words in any case and, with `letters`, t, y, f and n.
    Its own reading of AE5_TLS_VERIFY quietly takes `yes` and `on` for "off"; here they mean what they say.
    """
    word = raw.strip().lower()
    if word in _YES or (letters and word in ("t", "y")):
        return True
    if word in _NO or (letters and word in ("f", "n")):
        return False
    return None
