"""When a token expires, as far as its claims show.

AE5's tokens come from Keycloak, and their lifetime is not documented. The claims of a JSON web token can be read
without a key. They are not verified, so only the times are used.
"""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime, timedelta

from mlflow_ae5_deploy.common import json_input
from mlflow_ae5_deploy.common.durations import moment
from mlflow_ae5_deploy.common.redaction import Secret

WARN_BEFORE = timedelta(days=30)
_RENEW_BEFORE = timedelta(days=7)


def expiry(token: Secret) -> datetime | None:
    """When it expires (UTC); None when it does not say, or is no JSON web token."""
    parts = token.reveal().split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json_input.parse(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return None
    seconds = claims.get("exp") if isinstance(claims, dict) else None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds <= 0:
        return None  # 0 is Keycloak's way to say that an offline token has no end
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError):
        return None


def is_due(issued: datetime, expires: datetime | None, now: datetime) -> bool:
    """Whether less than a week, or half of a short lifetime, is left."""
    if expires is None:
        return False
    return expires - now <= min(_RENEW_BEFORE, (expires - issued) / 2)


def warning(expires: datetime | None, now: datetime) -> str | None:
    """A sentence when the expiry is near or past."""
    if expires is None or expires - now > WARN_BEFORE:
        return None
    if expires <= now:
        return f"The stored token expired on {expires:%Y-%m-%d %H:%M} UTC."
    return f"The stored token expires on {moment(expires, now)}."
