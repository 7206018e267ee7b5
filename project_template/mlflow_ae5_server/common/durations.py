"""The age after which garbage collection removes what users deleted: MLflow's `#d#h#m#s`."""

from __future__ import annotations

import re
from datetime import timedelta

from mlflow_ae5_server.common.errors import ConfigurationError

_NUMBER = r"(\d+(?:\.\d*)?|\.\d+)"
_FORM = re.compile(rf"(?:{_NUMBER}d)?(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s)?\Z")


def parse(text: str) -> timedelta:
    """The duration `text` means to MLflow. Raises ConfigurationError, which shows the accepted form.

    MLflow accepts an empty text as "no age at all", and reads `1..5d` until it crashes; both are refused here.
    """
    match = _FORM.match(text)
    if not text or not match:
        raise ConfigurationError(
            f"MLFLOW_TRACKING_GC_TTL is {text!r}, which is not a duration MLflow understands",
            "write it as #d#h#m#s, numbers may have decimals: 30d0h0m0s, 12h, 1.5d",
        )
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    try:
        return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    except OverflowError:
        raise ConfigurationError(f"MLFLOW_TRACKING_GC_TTL is {text!r}, which is longer than time lasts") from None
