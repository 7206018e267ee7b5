"""The keys with which MLflow encrypts LLM keys and webhook secrets.

Without a passphrase MLflow uses a constant of its source; without a key for webhooks every start makes another one. A
snapshot holds a check value of each key: a scrypt digest with a salt of its own, as slow to guess from as the
encryption itself, and never the key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mlflow_ae5_server.common.errors import Configuration
from mlflow_ae5_server.common.text import counted, shown

PASSPHRASE = "MLFLOW_CRYPTO_KEK_PASSPHRASE"  # noqa: S105 - a name
VERSION = "MLFLOW_CRYPTO_KEK_VERSION"
WEBHOOKS = "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY"
NAMES = (PASSPHRASE, WEBHOOKS)
PROTECTS = {PASSPHRASE: "LLM keys", WEBHOOKS: "webhook secrets"}
SAME, OTHER, UNSET = "same", "other", "unset"
_COST = {"n": 2**16, "r": 8, "p": 2, "maxmem": 2**27, "dklen": 32}
_SHAPE = re.compile(r"[0-9a-f]{32}:[0-9a-f]{64}")
_NAMED = 5  # rows


@dataclass(frozen=True)
class KeyCheck:
    """The check value of a key in a snapshot."""

    name: str
    salt: str  # empty, as `value`, where no key was set
    value: str
    rows: int = 0  # that were encrypted with it


def make_check(name: str, environ: Mapping[str, str], rows: int = 0) -> KeyCheck:
    key = _material(name, environ)
    if key is None:
        return KeyCheck(name, "", "", rows)
    salt = secrets.token_hex(16)
    return KeyCheck(name, salt, _digest(key, salt), rows)


def compare(check: KeyCheck, environ: Mapping[str, str]) -> str:
    """Compare the present key with a check value: SAME, OTHER or UNSET."""
    key = _material(check.name, environ)
    if key is None:
        return SAME if not check.value else UNSET
    return SAME if hmac.compare_digest(_digest(key, check.salt), check.value) else OTHER


def parse(entries: Any) -> tuple[KeyCheck, ...]:
    """Check values from JSON, one of each key at most.

    To compare takes a while. Raises ValueError, TypeError.
    """
    checks = tuple(KeyCheck(**entry) for entry in entries)
    if not all(map(_is_valid, checks)) or len({check.name for check in checks}) < len(checks):
        raise ValueError("not a check value")
    return checks


def _is_valid(check: KeyCheck) -> bool:
    """Whether `make_check` may have made it; its source may be writable."""
    texts = (check.salt, check.value)
    made = all(isinstance(text, str) for text in texts) and (texts == ("", "") or _SHAPE.fullmatch(":".join(texts)))
    return bool(made) and check.name in NAMES and type(check.rows) is int and 0 <= check.rows < 2**63


def compare_all(checks: Iterable[KeyCheck], environ: Mapping[str, str]) -> list[dict[str, Any]]:
    """The field `keys` of a report: how the snapshot's keys compare."""
    return [
        {"name": c.name, "protects": PROTECTS[c.name], "rows": c.rows, "at_hand": compare(c, environ)} for c in checks
    ]


def differences(compared: Iterable[Mapping[str, Any]]) -> list[str]:
    """A sentence for each key that is not the snapshot's."""
    sentences = []
    for key in compared:
        if key["at_hand"] == SAME:
            continue
        effect = "it holds nothing encrypted"
        if key["rows"]:
            effect = f"its {counted(key['rows'], key['protects'])} cannot be read"
        now = "is not set here" if key["at_hand"] == UNSET else "is another one here"
        sentences.append(f"{key['name']} {now} than when the snapshot was made: {effect}")
    return sentences


def _material(name: str, environ: Mapping[str, str]) -> str | None:
    key = environ.get(name)
    if not key:
        return None
    return f"{environ.get(VERSION) or '1'}:{key}" if name == PASSPHRASE else key


def _digest(key: str, salt: str) -> str:
    return hashlib.scrypt(key.encode(), salt=salt.encode(), **_COST).hex()


# encrypted values of the database ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Encrypted:
    """The values that one key protects, by their names."""

    name: str  # of the key
    rows: int
    published: tuple[str, ...] = ()  # encrypted with MLflow's constant: readable for everybody
    lost: tuple[str, ...] = ()  # encrypted with another key
    lost_ids: tuple[str, ...] = ()


def require_usable(environ: Mapping[str, str]) -> None:
    """Raise Configuration for a key that MLflow cannot use, or publishes."""
    if environ.get(PASSPHRASE):
        from mlflow.utils.crypto import DEFAULT_KEK_PASSPHRASE

        if environ[PASSPHRASE] == DEFAULT_KEK_PASSPHRASE:
            raise Configuration(f"{PASSPHRASE} is the constant that MLflow publishes", "set one of your own")
    version = environ.get(VERSION) or "1"
    if not (version.isascii() and version.isdigit() and 0 < int(version) < 2**31):
        raise Configuration(
            f"{VERSION} is not a positive number", "set it to 1, or to the version that rotate-kek printed"
        )
    webhooks = environ.get(WEBHOOKS)
    if webhooks and not is_webhook_key(webhooks):
        raise Configuration(
            f"{WEBHOOKS} is not a key: 32 bytes in URL-safe base64, 44 characters",
            "python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())' prints one",
        )


def is_webhook_key(text: str) -> bool:
    try:
        return len(base64.urlsafe_b64decode(text.encode("ascii"))) == 32
    except (ValueError, binascii.Error):
        return False


def examine(engine: Any, environ: Mapping[str, str]) -> list[Encrypted]:
    """The encrypted values, and whether the present keys read them."""
    from sqlalchemy import inspect

    tables = set(inspect(engine).get_table_names())
    with engine.connect() as connection:
        return [_gateway(connection, tables, environ), _webhooks(connection, tables, environ)]


def adopt(engine: Any, environ: Mapping[str, str]) -> int:
    """Encrypt again rows encrypted with MLflow's constant; count them.

    As MLflow's `crypto rotate-kek`, but in place: a key that was not set until now takes effect for all rows.
    """
    from mlflow.utils.crypto import KEKManager, wrap_dek
    from sqlalchemy import inspect, text

    if not environ.get(PASSPHRASE) or "secrets" not in inspect(engine).get_table_names():
        return 0
    with engine.begin() as connection:
        rows = [(row, key) for row, key in _unwrapped(connection, environ) if key is not None]
        if not rows:
            return 0
        manager = KEKManager(environ[PASSPHRASE], int(environ.get(VERSION) or "1"))
        for row, key in rows:
            connection.execute(
                text("UPDATE secrets SET wrapped_dek = :new, kek_version = :version WHERE secret_id = :id"),
                {"new": wrap_dek(key, manager.get_kek()), "version": manager.kek_version, "id": row.secret_id},
            )
    return len(rows)


def _gateway(connection: Any, tables: set[str], environ: Mapping[str, str]) -> Encrypted:
    if "secrets" not in tables:
        return Encrypted(PASSPHRASE, 0)
    from sqlalchemy import text

    rows = connection.execute(text("SELECT count(*) FROM secrets")).scalar()
    bad = _unwrapped(connection, environ) if rows else []  # no import of MLflow for nothing
    published = tuple(row.secret_name for row, key in bad if key is not None)
    return Encrypted(PASSPHRASE, rows, published, tuple(row.secret_name for row, key in bad if key is None))


def _unwrapped(connection: Any, environ: Mapping[str, str]) -> list[tuple[Any, bytes | None]]:
    """Rows that the passphrase does not read; their key if the constant does."""
    from mlflow.utils.crypto import DEFAULT_KEK_PASSPHRASE, KEKManager
    from sqlalchemy import text

    rows = connection.execute(text("SELECT secret_id, secret_name, wrapped_dek, kek_version FROM secrets")).all()
    published: dict[int, Any] = {}
    ours = KEKManager(environ[PASSPHRASE], int(environ.get(VERSION) or "1")) if environ.get(PASSPHRASE) else None
    found = []
    for row in rows:
        if ours is not None and _unwrap(row.wrapped_dek, ours) is not None:
            continue
        if row.kek_version not in published:
            published[row.kek_version] = KEKManager(DEFAULT_KEK_PASSPHRASE, row.kek_version)
        found.append((row, _unwrap(row.wrapped_dek, published[row.kek_version])))
    return found


def _unwrap(wrapped: Any, manager: Any) -> bytes | None:
    from mlflow.exceptions import MlflowException
    from mlflow.utils.crypto import unwrap_dek

    try:
        return unwrap_dek(bytes(wrapped), manager.get_kek())
    except (MlflowException, ValueError):
        return None


def _webhooks(connection: Any, tables: set[str], environ: Mapping[str, str]) -> Encrypted:
    if "webhooks" not in tables:
        return Encrypted(WEBHOOKS, 0)
    from cryptography.fernet import Fernet, InvalidToken
    from sqlalchemy import text

    query = "SELECT webhook_id, name, secret FROM webhooks WHERE secret IS NOT NULL AND deleted_timestamp IS NULL"
    rows = connection.execute(text(query)).all()
    cipher = Fernet(environ[WEBHOOKS]) if environ.get(WEBHOOKS) else None
    lost = []
    for row in rows:
        try:
            if cipher is not None:
                cipher.decrypt(row.secret.encode())
                continue
        except InvalidToken:
            pass
        lost.append(row)
    names, ids = tuple(row.name for row in lost), tuple(row.webhook_id for row in lost)
    return Encrypted(WEBHOOKS, len(rows), (), names, ids)


def warnings(encrypted: Iterable[Encrypted], environ: Mapping[str, str]) -> list[str]:
    """A sentence for each problem, with what to do."""
    sentences = []
    for one in encrypted:
        what = PROTECTS[one.name]
        if one.published:
            sentences.append(
                f"{counted(len(one.published), what)} ({_names(one.published)}) encrypted with a constant that MLflow "
                f"publishes, readable in every backup: set {one.name} (`install` does) and restart the "
                "server, which encrypts them again; then replace them at their provider: older backups keep them"
            )
        if one.lost:
            sentences.append(
                f"{counted(len(one.lost), what)} ({_names(one.lost)}) encrypted with another {one.name}, unreadable "
                f"now: set the key of that time (see the saved key file), or {_without_key(one)}"
            )
        if not environ.get(one.name) and not one.published and not one.lost:
            why = "are readable for everybody in a backup" if one.name == PASSPHRASE else "break at the next restart"
            sentences.append(f"{one.name} is not set, so {what} {why}: `install` sets it")
    return sentences


def _without_key(one: Encrypted) -> str:
    if one.name == PASSPHRASE:
        return "enter them again"
    ids = ", ".join("'" + shown(name).replace("'", "''") + "'" for name in one.lost_ids)
    fix = f"UPDATE webhooks SET secret = NULL, status = 'DISABLED' WHERE webhook_id IN ({ids})"  # noqa: S608 - shown
    return f"have them listed again by {fix}; until then MLflow answers 500 to list, get and delete"


def _names(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(shown(name) for name in names[:_NAMED]) + more
