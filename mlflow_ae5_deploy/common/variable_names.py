"""Names of the secrets and variables that several modules read or set."""

from __future__ import annotations

CERTIFICATE = "MLFLOW_TRACKING_SERVER_CERT_PATH"
DATABASE = "MLFLOW_BACKEND_STORE_URI"
GC_TTL = "MLFLOW_TRACKING_GC_TTL"
GC_DRY_RUN = "MLFLOW_TRACKING_GC_DRY_RUN"
TOKEN = "MLFLOW_TRACKING_TOKEN"  # noqa: S105 - a name
