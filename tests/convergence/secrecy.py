"""Whether a disturbed run left a secret where none belongs: in what it said, and in what the tool keeps."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator

from tests.cli.bench import Outcome
from tests.convergence.cell import ACCOUNT, CONSUMER, Cell
from tests.convergence.expectations import KEYS


def leaked(cell: Cell, outcomes: list[Outcome]) -> list[str]:
    """Where one of the secrets that the platform knows can be found; empty as it should be."""
    values = {value.encode() for value in secrets(cell)}
    return [where for where, content in printed_and_saved(cell, outcomes) if any(value in content for value in values)]


def secrets(cell: Cell) -> set[str]:
    """Passwords, MLflow's keys, and each token that is stored for somebody."""
    generated = json.loads((cell.sandbox / "credentials.json").read_text())
    passwords = {generated["admin"]["password"], *generated["users"].values(), *generated["reserved"].values()}
    tokens = {cell.mounted(user).get("MLFLOW_TRACKING_TOKEN", "") for user in (ACCOUNT, CONSUMER)} - {""}
    keys = {value for name, value in cell.mounted(ACCOUNT).items() if name in KEYS}
    found = passwords | tokens | keys
    assert all(len(value) >= 8 for value in found)
    return found


def printed_and_saved(cell: Cell, outcomes: list[Outcome]) -> Iterator[tuple[str, bytes]]:
    for number, outcome in enumerate(outcomes):
        yield f"stdout {number}", outcome.out.encode()
        yield f"stderr {number}", outcome.err.encode()
    for path in cell.state.rglob("*"):
        parts = path.relative_to(cell.state).parts
        if path.is_file() and parts[0] != "sandbox" and path != cell.state_folder / "keys":
            content = path.read_bytes()
            yield "/".join(parts), content
            if path.name.endswith(".tar.gz"):
                yield "/".join(parts), gzip.decompress(content)
    yield "the sandbox's call log", repr(cell.control.calls()).encode()
