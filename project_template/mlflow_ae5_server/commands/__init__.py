"""One module per command of the project."""
