"""Client of the control plane of a sandbox in another process."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from mlflow_ae5_deploy.sandbox.control_plane.control import Call
from mlflow_ae5_deploy.sandbox.info import SandboxInfo
from mlflow_ae5_deploy.sandbox.lifecycle import control_request


class RemoteControl:
    """Needs to be able to read the control token in the sandbox's state folder."""

    def __init__(self, info: SandboxInfo) -> None:
        self._info = info

    def add_fault(self, **values: Any) -> dict[str, Any]:
        """See `control.Fault` for the values. Raises SandboxError when they make no sense."""
        found: dict[str, Any] = self._ask("POST", "/faults", values)
        return found

    def clear_faults(self) -> None:
        self._ask("DELETE", "/faults")

    def calls(self, surface: str | None = None) -> list[Call]:
        path = "/calls" + (f"?surface={quote(surface)}" if surface else "")
        return [Call(**c) for c in self._ask("GET", path)]

    def clear_calls(self) -> None:
        self._ask("DELETE", "/calls")

    def clear(self) -> None:
        self.clear_faults()
        self.clear_calls()

    def change_settings(self, **changes: Any) -> dict[str, Any]:
        """All settings, after the change. Raises SandboxError when it makes no sense."""
        found: dict[str, Any] = self._ask("PATCH", "/settings", changes)
        return found

    def advance_clock(self, seconds: float) -> float:
        """The schedule's new time, epoch seconds."""
        return float(self._ask("POST", "/clock", {"seconds": seconds})["now"])

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        return control_request(self._info, method, path, body)
