"""`python -m mlflow_ae5_deploy`, and the installed command."""

from __future__ import annotations

import sys


def entrypoint() -> None:
    """Ctrl-C is answered in the same way while the program is still being loaded."""
    try:
        from mlflow_ae5_deploy.cli.main import main

        code = main()
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted.\n")
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    entrypoint()
