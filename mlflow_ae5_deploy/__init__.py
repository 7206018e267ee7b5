"""Install and run an MLflow tracking server on Anaconda Enterprise 5."""
