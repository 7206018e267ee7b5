"""The record inside an archive of what it was made from, and the digest by which content is recognised.

The file is `<top>/.mlflow-ae5-deploy/provenance.json`:
`{"schema": 1, "release": {"kind", "version", "source", "sha256"}, "changes": [...], "tool": "mlflow-ae5-deploy X",
"files": {path: sha256}, "content_digest": sha256}`. There is no time in it: same input, same bytes. It does not
list itself, so the digest does not depend on the tool's version or on where a release came from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from mlflow_ae5_deploy.common import json_input
from mlflow_ae5_deploy.release.archive import FileEntry
from mlflow_ae5_deploy.release.tree import PROVENANCE_FOLDER

PROVENANCE_FILE = f"{PROVENANCE_FOLDER}/provenance.json"
SCHEMA = 1


def digest_content(files: Mapping[str, FileEntry]) -> str:
    """SHA-256 over path and SHA-256 of every file, in the order of their paths. Modes are no part of the content: the
    platform does not give them back."""
    digest = hashlib.sha256()
    for path, entry in sorted(files.items()):
        digest.update(f"{path}\0{entry.sha256}\n".encode())
    return digest.hexdigest()


def to_json(provenance: Mapping[str, Any]) -> bytes:
    return (json.dumps(provenance, indent=1, sort_keys=True) + "\n").encode()


def from_json(data: bytes) -> dict[str, Any] | None:
    """The record, or None when it is not one that this tool wrote."""
    try:
        found = json_input.parse(data)
    except ValueError:
        return None
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        return None
    files = found.get("files")
    well_formed = (
        isinstance(found.get("content_digest"), str)
        and isinstance(found.get("release"), dict)
        and isinstance(files, dict)
        and all(isinstance(digest, str) for digest in files.values())
    )
    return found if well_formed else None
