"""References to secrets: which texts are one, and what comes of each."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.common.redaction import Secret
from mlflow_ae5_deploy.config.secret_refs import SecretRef

PLAIN = "correct-horse-battery"


def never(label: str) -> str:
    raise AssertionError("nobody is to be asked")


def private_file(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    path = folder / "secret.txt"
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("env:AE5_PASSWORD", "env", "AE5_PASSWORD"),
        ("env:_x9", "env", "_x9"),
        ("file:/run/secret", "file", "/run/secret"),
        ("file:secret.txt", "file", "/base/secret.txt"),
        ("file:with:colon", "file", "/base/with:colon"),
        ("prompt", "prompt", ""),
    ],
)
def test_references_are_parsed(text, kind, name):
    reference = SecretRef.parse(text, base=Path("/base"))
    assert (reference.kind, reference.name) == (kind, name)


@pytest.mark.parametrize(
    "text",
    [PLAIN, "", "env:", "env:9A", "env:A B", f"env:{PLAIN}", "file:", "file: ", "file:a\0b", "Prompt", "held", "ENV:A"],
)
def test_refuses_what_is_no_reference_without_repeating_it(text):
    with pytest.raises(ValueError) as caught:
        SecretRef.parse(text)
    assert PLAIN not in str(caught.value)


def test_a_reference_to_a_variable_is_resolved():
    secret = SecretRef.parse("env:PW").resolve(environ={"PW": PLAIN}, prompt=never)
    assert secret.reveal() == PLAIN


@pytest.mark.parametrize(("environ", "state"), [({}, "not set"), ({"PW": ""}, "empty")])
def test_environment_without_the_variable(environ, state):
    with pytest.raises(Configuration, match=f"PW.* {state}"):
        SecretRef.parse("env:PW").resolve(environ=environ, prompt=never, label="password")


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"abc", "abc"),
        (b"abc\n", "abc"),
        (b"abc\r\n", "abc"),
        (b"abc\n\n", "abc\n"),
        (b" abc ", " abc "),
        (b"a\nb\n", "a\nb"),
        ("pä§§".encode(), "pä§§"),
    ],
)
def test_file_loses_one_line_break_at_most(tmp_path, content, value):
    path = private_file(tmp_path, content)
    assert SecretRef.parse(f"file:{path}").resolve(environ={}, prompt=never).reveal() == value


@pytest.mark.parametrize(
    ("mode", "accepted"),
    [(0o600, True), (0o400, True), (0o700, True), (0o640, False), (0o604, False), (0o620, False), (0o644, False)],
)
def test_file_must_be_private(tmp_path, mode, accepted):
    path = private_file(tmp_path, PLAIN.encode(), mode)
    reference = SecretRef.parse(f"file:{path}")
    if accepted:
        assert reference.resolve(environ={}, prompt=never) == Secret(PLAIN)
        return
    with pytest.raises(Configuration) as caught:
        reference.resolve(environ={}, prompt=never)
    assert f"{mode:04o}" in caught.value.what
    assert caught.value.remedy == f"chmod 600 '{path}'"
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "is empty"), (b"\n", "is empty"), (b"\xff\xfe", "UTF-8"), (b"x" * 70_000, "larger")]
)
def test_file_with_unfit_content(tmp_path, content, words):
    with pytest.raises(Configuration, match=words):
        SecretRef.parse(f"file:{private_file(tmp_path, content)}").resolve(environ={}, prompt=never)


def test_a_secret_in_a_pipe_or_folder_is_refused(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)  # opening it the usual way would wait for ever
    for path, words in ((pipe, "regular file"), (tmp_path, "regular file|directory"), (tmp_path / "no", "No such")):
        with pytest.raises(Configuration, match=words):
            SecretRef.parse(f"file:{path}").resolve(environ={}, prompt=never)


def test_link_to_a_private_file_is_followed(tmp_path):
    link = tmp_path / "link"
    link.symlink_to(private_file(tmp_path, b"abc\n"))
    assert SecretRef.parse(f"file:{link}").resolve(environ={}, prompt=never).reveal() == "abc"


def test_prompt_names_the_secret():
    questions: list[str] = []

    def person(label):
        questions.append(label)
        return PLAIN

    secret = SecretRef.parse("prompt").resolve(environ={}, prompt=person, label="password of mlflow-service")
    assert (secret.reveal(), questions) == (PLAIN, ["password of mlflow-service"])


def test_prompt_without_a_terminal_or_an_answer():
    def closed(label):
        raise EOFError

    for prompt, words in ((None, "no terminal"), (lambda label: "", "No .* was entered"), (closed, "was entered")):
        with pytest.raises(Configuration, match=words):
            SecretRef.parse("prompt").resolve(environ={}, prompt=prompt)


def test_held_value_is_given_out_but_not_shown():
    reference = SecretRef.holding(Secret(PLAIN))
    assert reference.resolve(environ={}, prompt=None).reveal() == PLAIN
    assert PLAIN not in f"{reference} {reference!r}"
