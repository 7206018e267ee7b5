"""What AE5 runs: an MLflow tracking server and its maintenance jobs.

`python -m mlflow_ae5_server --help`, from the project folder, lists the commands. They need the packages that
anaconda-project.yml locks, and never the tool that deploys them.
"""

__version__ = "0.1.0"
