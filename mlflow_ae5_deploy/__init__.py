"""Install and run an MLflow tracking server on Anaconda Enterprise 5."""

__version__ = "0.1.0"
