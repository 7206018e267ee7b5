"""The public URL of the deployment."""

from __future__ import annotations

from mlflow_ae5_deploy.engine.change import Change


class ReadUrl(Change):
    verb, resource = "read", "the endpoint's URL"
