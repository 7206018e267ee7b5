"""`python -m mlflow_ae5_deploy`."""

from mlflow_ae5_deploy.cli.main import entrypoint

entrypoint()
