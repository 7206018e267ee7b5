"""Changes of the service account."""

from __future__ import annotations

from mlflow_ae5_deploy.engine.change import Change


class CreateAccount(Change):
    verb, resource = "create", "account"


class SignIn(Change):
    verb, resource = "sign in", "as"
