"""Data of a running sandbox, and the error that its users see."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

VHOST = "ae5.localhost"
"""The platform's name where names below localhost resolve."""

ADMIN = "admin"
"""The name of its administrator."""


class SandboxError(RuntimeError):
    """An operation of the sandbox failed; the message is for users."""


@dataclass(frozen=True)
class SandboxInfo:
    """A running sandbox."""

    hostname: str  # with the port: `localhost:8443`
    ca_file: Path
    pid: int
    state_dir: Path
    control_url: str
    credentials_file: Path
    """JSON, mode 0600: `{"admin": {"username", "password"}, "users": {name: password}, "reserved": {name: password}}`;
    reserved are passwords of accounts that do not exist yet"""
    mounts_secrets: bool = True  # commands find their secrets where AE5 has them

    @property
    def control_token_file(self) -> Path:
        return self.state_dir / "control-token"

    def to_json(self) -> str:
        return json.dumps({k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()})

    @classmethod
    def from_json(cls, text: str) -> SandboxInfo:
        data: dict[str, Any] = json.loads(text)
        for name in ("ca_file", "state_dir", "credentials_file"):
            data[name] = Path(data[name])
        return cls(**data)
