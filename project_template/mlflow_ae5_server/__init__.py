"""What AE5 runs: an MLflow tracking server and its maintenance jobs.

`python -m mlflow_ae5_server tracking-server | garbage-collection | database-upgrade | check`, from the project folder.
The package depends on MLflow and on what MLflow brings, on nothing else.
"""

__version__ = "0.1.0"
