"""Secrets as files for the commands: one folder per account."""

from __future__ import annotations

import asyncio
import time

from mlflow_ae5_deploy.sandbox.core import SandboxCore
from mlflow_ae5_deploy.sandbox.models import SandboxSecret
from mlflow_ae5_deploy.sandbox.store import write_private


class SecretFiles:
    """Secret files in step with the state. Runs on the server's loop."""

    def __init__(self, core: SandboxCore) -> None:
        self._core = core
        self._timers: set[asyncio.TimerHandle] = set()

    def start(self) -> None:
        for username in self._core.state.secrets:
            self.sync(username)

    def stop(self) -> None:
        for timer in self._timers:
            timer.cancel()

    def put(self, username: str, name: str, value: str) -> None:
        due = time.time() + self._core.settings.secret_mount_seconds
        self._core.state.secrets.setdefault(username, {})[name] = SandboxSecret(value, due)
        self._core.save()
        self.sync(username)

    def sync(self, username: str) -> None:
        """Write due secrets, delete removed ones, and schedule the rest."""
        folder = self._core.secrets_folder(username)
        secrets = self._core.state.secrets.get(username, {})
        now = time.time()
        for path in folder.iterdir():
            if path.name not in secrets:
                path.unlink()
        for name, secret in secrets.items():
            if secret.due <= now:
                write_private(folder / name, secret.value, scratch=folder.parent)
        later = [s.due for s in secrets.values() if s.due > now]
        if later:
            loop = asyncio.get_running_loop()
            self._timers.add(loop.call_later(min(later) - now + 0.01, self.sync, username))
