"""What is to be done about each key: a row for each state of platform, memory, key file and configuration."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from runbook_support import ACCOUNT, Lists, context

from mlflow_ae5_deploy.common.errors import Configuration, Conflict
from mlflow_ae5_deploy.common.redaction import Secret
from mlflow_ae5_deploy.config.secret_refs import SecretResolver
from mlflow_ae5_deploy.resources import encryption_keys

NAME = encryption_keys.PASSPHRASE
OURS, THEIRS = "a-passphrase-of-our-own", "a-passphrase-of-somebody-else"
CONFIGURED = {NAME: "env:KEK"}

# set on the platform, remembered as stored, in the key file, configured -> state, and with --replace-keys
ROWS = [
    (False, None, None, None, "made", "made"),
    (False, None, OURS, None, "new", "new"),
    (False, None, None, OURS, "new", "new"),
    (False, None, THEIRS, OURS, "new", "new"),
    (False, OURS, None, None, Conflict, "made"),
    (False, OURS, OURS, None, "missing", "missing"),
    (False, OURS, THEIRS, None, Conflict, "new"),
    (True, None, None, None, "kept", "made"),
    (True, None, OURS, None, "kept", "different"),
    (True, None, None, OURS, "kept", "different"),
    (True, OURS, None, None, "kept", "made"),
    (True, OURS, OURS, None, "same", "same"),
    (True, OURS, None, OURS, "same", "same"),
    (True, OURS, THEIRS, OURS, "same", "same"),
    (True, OURS, THEIRS, None, Conflict, "different"),
    (True, OURS, OURS, THEIRS, Conflict, "different"),
]


@pytest.mark.parametrize("replaces", [False, True], ids=["", "--replace-keys"])
@pytest.mark.parametrize(("is_set", "stored", "in_file", "configured", "state", "replaced"), ROWS)
def test_what_follows(tmp_path, is_set, stored, in_file, configured, state, replaced, replaces):
    where = context(
        tmp_path,
        lists=Lists(secrets_={NAME} if is_set else set()),
        server={"secrets": CONFIGURED} if configured else {},
    )
    where.values = SecretResolver({"KEK": configured or ""}, None)
    where.options = replace(where.options, replace_keys=replaces)
    if stored:
        where.state.record_secrets(ACCOUNT, {NAME: Secret(stored)}, where.clock.now())
    if in_file:
        encryption_keys.path(where).write_text(f"# by hand\n{NAME}={in_file}\n")
        encryption_keys.path(where).chmod(0o600)
    expected = replaced if replaces else state

    if expected is Conflict:
        with pytest.raises(Conflict) as refused:
            encryption_keys.observe(where)
        assert "--replace-keys" in refused.value.remedy
        assert OURS not in str(refused.value)
        return
    found = {secret.name: secret for secret in encryption_keys.observe(where)}[NAME]
    assert found.state == expected
    assert bool(found.note) == (expected == "kept")
    assert (tmp_path / "keys").exists() == bool(in_file)


def test_a_key_file_of_this_installation_is_recognized_without_state(tmp_path):
    where = context(tmp_path, lists=Lists(secrets_={*encryption_keys.NAMES}))
    encryption_keys.make(where, encryption_keys.NAMES)
    assert {secret.state for secret in encryption_keys.observe(where)} == {"same"}
    elsewhere = context(tmp_path, lists=Lists(secrets_={*encryption_keys.NAMES}), project={"name": "another"})
    assert {secret.state for secret in encryption_keys.observe(elsewhere)} == {"kept"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "There is no key file with"),
        ("", "The key file does not have"),
        (
            f"{NAME}={OURS}\n",
            f"The key file does not have {encryption_keys.WEBHOOKS} of {ACCOUNT}: it may be incomplete.",
        ),
    ],
)
def test_a_half_written_key_file_is_told_from_none(tmp_path, text, why):
    where = context(tmp_path, lists=Lists(secrets_={*encryption_keys.NAMES}))
    if text is not None:
        encryption_keys.path(where).write_text(text)
        encryption_keys.path(where).chmod(0o600)
    (note,) = [secret.note for secret in encryption_keys.observe(where) if secret.note]
    assert note.startswith(why)


def test_a_key_that_is_missing_is_added_to_the_file(tmp_path):
    where = context(tmp_path, lists=Lists())
    encryption_keys.path(where).write_text(f"{NAME}={OURS}\n{encryption_keys.VERSION}=2\n")
    encryption_keys.path(where).chmod(0o600)
    assert [secret.state for secret in encryption_keys.observe(where)] == ["new", "made", "new"]
    encryption_keys.make(where, [encryption_keys.WEBHOOKS])
    found = encryption_keys.available(where)
    assert (found[NAME].reveal(), found[encryption_keys.VERSION].reveal(), set(found)) == (
        OURS,
        "2",
        {*encryption_keys.NAMES, encryption_keys.VERSION},
    )


def test_a_configured_key_that_is_none_is_refused_by_name(tmp_path):
    where = context(tmp_path, lists=Lists(), server={"secrets": {encryption_keys.WEBHOOKS: "env:KEY"}})
    where.values = SecretResolver({"KEY": "no-such-key"}, None)
    with pytest.raises(Configuration) as refused:
        encryption_keys.observe(where)
    assert refused.value.where == f"server.secrets.{encryption_keys.WEBHOOKS}"
    assert "no-such-key" not in str(refused.value)


def test_check_values_are_those_of_the_server_project(tmp_path):
    where = context(tmp_path, lists=Lists())
    encryption_keys.make(where, encryption_keys.NAMES)
    copies = {name: value.reveal() for name, value in encryption_keys.available(where).items()}
    for check in encryption_keys.check_values(where):
        text = f"1:{copies[NAME]}" if check["name"] == NAME else copies[check["name"]]
        salt = check["salt"].encode()
        assert (
            check["value"] == hashlib.scrypt(text.encode(), salt=salt, n=2**16, r=8, p=2, maxmem=2**27, dklen=32).hex()
        )
        assert not [value for value in copies.values() if value in str(check)]
