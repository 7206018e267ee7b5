"""The keys with which MLflow encrypts what users enter.

AE5 shows no secret again, so the key file is the only other copy. It is written before a secret is set. A stored key is
only replaced on request: what it has encrypted could not be read any more.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from mlflow_ae5_deploy.common.errors import Configuration, Conflict
from mlflow_ae5_deploy.common.files import read_private, write_private
from mlflow_ae5_deploy.common.redaction import Secret
from mlflow_ae5_deploy.common.text import capitalized
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.resources.secrets import KEPT, MADE, SecretState

PASSPHRASE = "MLFLOW_CRYPTO_KEK_PASSPHRASE"  # noqa: S105 - a name
VERSION = "MLFLOW_CRYPTO_KEK_VERSION"
WEBHOOKS = "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY"
NAMES = (PASSPHRASE, WEBHOOKS)
_IN_FILE = (*NAMES, VERSION)
_PUBLISHED = "mlflow-default-kek-passphrase-for-development-only"  # in MLflow's source, mlflow/utils/crypto.py
_FILE = "keys"
_LOSS = "LLM keys and webhook secrets entered by users cannot be read with another key."
_OF = "# Keys of the MLflow tracking server {project}, account {account}, {host}."
_HEAD = """\
{of}
# Keep a copy of this file in a safe place, apart from the backups. Without it, LLM keys and webhook secrets in a
# backup cannot be read on another account. To restore there: put the file at the path of `server.key_file`.
"""


def path(context: Context) -> Path:
    return context.settings.server.key_file or context.folders.state / _FILE


def available(context: Context) -> dict[str, Secret]:
    """Keys of the configuration, then of the key file. Raises Configuration."""
    configured = context.settings.server.secrets
    found = {name: value for name, value in _keys_in(_text(path(context)), context).items() if name not in configured}
    found |= {
        name: context.values.secret(ref, f"secret {name}") for name, ref in configured.items() if name in _IN_FILE
    }
    for name, value in found.items():
        if problem := _problem(name, value.reveal()):
            where = f"server.secrets.{name}" if name in configured else str(path(context))
            raise Configuration(f"{name} {problem}.", where=where)
    return found


def observe(context: Context) -> tuple[SecretState, ...]:
    """The state of each key. Raises Conflict where a stored one would be replaced."""
    keys = available(context)
    listed = context.cached.secret_names()
    states = [_observe(context, name, keys.get(name), listed) for name in _IN_FILE if name in keys or name in NAMES]
    unseen = [secret.name for secret in states if secret.state == KEPT]
    if not unseen:
        return tuple(states)
    note = _unsure(context, unseen) if all(name in keys for name in unseen) else _no_copy(context, unseen, keys)
    return tuple(replace(state, note=note) if state.name == unseen[0] else state for state in states)


def _observe(context: Context, name: str, value: Secret | None, listed: Collection[str]) -> SecretState:
    account, replaceable = context.account, context.options.replace_keys
    is_set = name in listed
    stored = name in context.state.secrets.get(account, {})
    if value is None:
        if is_set and not replaceable:
            return SecretState(name, KEPT)
        if stored and not is_set and not replaceable:
            raise Conflict(
                f"{name} was stored for {account} and is not set any more, and {_missing(context, 'it')}.",
                where=str(path(context)),
                remedy=f"Put the saved key file there. {_LOSS} If no copy is left: `install --replace-keys`.",
            )
        return SecretState(name, MADE)
    state = context.state.compare_secret(account, name, value)
    if state == "same":
        return SecretState(name, "same" if is_set else "missing")
    if state == "different" and not replaceable:
        raise Conflict(
            f"The {name} on this machine is not the one that was stored for {account}.",
            where=f"server.secrets.{name}" if name in context.settings.server.secrets else str(path(context)),
            remedy=f"Put the stored key back there. {_LOSS} To store this one anyway, run `install --replace-keys`.",
        )
    if not is_set:
        return SecretState(name, "new")
    if replaceable:
        return SecretState(name, "different")
    # This machine has no record of setting it, but its key file may have been made for this installation.
    ours = name not in context.settings.server.secrets and _first_line(context) in _text(path(context)).splitlines()
    return SecretState(name, "same" if ours else KEPT)


def _unsure(context: Context, names: Iterable[str]) -> str:
    return (
        f"{' and '.join(names)} of {context.account} were set from another machine, and may differ from the key here "
        f"({path(context)} or the configuration). Run `doctor --from-platform` to compare them, or "
        "`install --replace-keys` to store the key here."
    )


def _no_copy(context: Context, names: Iterable[str], keys: Mapping[str, Secret]) -> str:
    missing = [name for name in names if name not in keys]
    what = f"{' and '.join(missing)} of {context.account}"
    return (
        f"{capitalized(_missing(context, what))}. {_LOSS} Put the saved key "
        f"file at {path(context)}. Without one, copy the keys from /var/run/secrets/user_credentials in a session of "
        "this account."
    )


def _missing(context: Context, what: str) -> str:
    """Why there is no key, as a clause."""
    if path(context).exists():
        return f"the key file does not have {what}: it may be incomplete"
    return f"there is no key file with {what} on this machine"


def make(context: Context, names: Iterable[str]) -> dict[str, Secret]:
    """Make new keys, and write them to the key file before this returns."""
    file = path(context)
    made = {name: Secret(_new(name)) for name in names}
    lines = {**_keys_in(_text(file), context), **made}
    text = _HEAD.format(of=_first_line(context))
    text += "".join(f"{name}={lines[name].reveal()}\n" for name in _IN_FILE if name in lines)
    write_private(file.resolve(), text.encode())
    context.journal.effect("create", f"keys {', '.join(made)} in {file}")
    context.outputs.keys_made = True
    return made


def are_prompted(context: Context) -> bool:
    """Whether the configuration prompts for one of them."""
    configured = context.settings.server.secrets.items()
    return any(name in _IN_FILE and ref.kind == "prompt" for name, ref in configured)


def only_on_the_platform(context: Context) -> set[str]:
    """Keys of which neither the key file nor the configuration has a copy."""
    return {*NAMES} - {*context.settings.server.secrets, *_keys_in(_text(path(context)), context)}


def check_values(context: Context) -> list[dict[str, str]]:
    """Salted digests of the keys, for the project's command `Check`; see keys.py there."""
    keys = available(context)
    version = keys[VERSION].reveal() if VERSION in keys else "1"
    found = []
    for name in NAMES:
        if name in keys:
            salt, key = secrets.token_hex(16), keys[name].reveal()
            found.append(
                {"name": name, "salt": salt, "value": _digest(f"{version}:{key}" if name == PASSPHRASE else key, salt)}
            )
    return found


def _digest(key: str, salt: str) -> str:
    return hashlib.scrypt(key.encode(), salt=salt.encode(), n=2**16, r=8, p=2, maxmem=2**27, dklen=32).hex()


def _new(name: str) -> str:
    if name == WEBHOOKS:
        return base64.urlsafe_b64encode(os.urandom(32)).decode()
    return secrets.token_urlsafe(32)


def _problem(name: str, value: str) -> str:
    """Why MLflow would refuse a key, or anybody could know it; empty if neither."""
    if name == VERSION:
        return "" if re.fullmatch(r"[1-9][0-9]{0,8}", value) else "must be a number from 1 on"
    if name == WEBHOOKS:
        return "" if _is_fernet(value) else "must be 32 bytes in URL-safe base64 (44 characters)"
    return "is the constant that MLflow publishes" if value == _PUBLISHED else ""


def _is_fernet(value: str) -> bool:
    try:
        return len(base64.urlsafe_b64decode(value.encode("ascii"))) == 32
    except ValueError:
        return False


def _first_line(context: Context) -> str:
    """The first line of a key file that was made for this installation."""
    host = context.access.target.options.hostname
    return _OF.format(project=context.settings.project.name, account=context.account, host=host)


def _text(file: Path) -> str:
    """Empty where there is no file. Raises Configuration for one that others may read."""
    try:
        return read_private(file, "keys").decode()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise Configuration(f"The key file cannot be read: {why}.", where=str(file)) from None


def _keys_in(text: str, context: Context) -> dict[str, Secret]:
    """Raises Configuration for a line that is no key."""
    found: dict[str, Secret] = {}
    if text and not text.endswith("\n"):  # every file that this tool writes does, and a part of a key would be taken
        raise Configuration(
            "The key file does not end with a line break: it may be incomplete.",
            where=str(path(context)),
            remedy="Put the saved copy of the file there. If the file is complete, add a line break at its end.",
        )
    for number, line in enumerate(text.splitlines(), 1):
        name, separator, value = (part.strip() for part in line.partition("="))
        if not name or name.startswith("#"):
            continue
        if not separator or name not in _IN_FILE or not value or name in found:
            raise Configuration(
                f"Line {number} of the key file is not NAME=VALUE of one of {', '.join(_IN_FILE)}, each once.",
                where=str(path(context)),
                remedy="Put the saved copy of the file there.",
            )
        found[name] = Secret(value)
    return found
