"""What Anaconda Enterprise 5 (AE5) runs: an MLflow tracking server, its garbage collection, its schema upgrade.

`python -m mlflow_ae5_server tracking-server | garbage-collection | database-upgrade | check`, from the project folder.
The package depends on MLflow and on what MLflow brings, on nothing else.
"""

__version__ = "0.1.0"
