"""A progress display that shows nothing."""

from __future__ import annotations

from mlflow_ae5_deploy.engine.progress import Phase


class NoProgress:
    verbose = False

    def log(self, line: str) -> None:
        pass

    def waiting(self, what: str) -> None:
        pass

    def phase(self, phase: Phase) -> None:
        pass

    def server_down(self, *, down: bool) -> None:
        pass

    def warning(self, text: str) -> None:
        pass
