"""What is said of secrets that are to be set."""

from __future__ import annotations

import pytest

from mlflow_ae5_deploy.resources.secrets import KEPT, MADE, SecretState, setting

# states -> the change, as a sentence; None: no change
ROWS = [
    (["same", KEPT], None),
    (["new"], "set secret S0: not set"),
    ([MADE], "set secret S0: not set (1 new key, written to the key file)"),
    (["new", "new", MADE, MADE], "set 4 secrets: not set (2 new keys, written to the key file)"),
    (
        ["different", "same", MADE],
        "set 2 secrets: 1 not the configured value, 1 not set (1 new key, written to the key file)",
    ),
    (["new", "different", "new"], "set 3 secrets: 2 not set, 1 not the configured value"),
]


@pytest.mark.parametrize(("states", "sentence"), ROWS)
def test_the_reason_counts_each_kind_once(states, sentence):
    changes = setting([SecretState(f"S{number}", state) for number, state in enumerate(states)])

    assert [change.sentence for change in changes] == ([sentence] if sentence else [])
