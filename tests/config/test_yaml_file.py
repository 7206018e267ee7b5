"""Files that cannot be read: where it is said to be wrong, and that nothing of the file is repeated."""

from __future__ import annotations

import pytest

from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.config.yaml_file import read_yaml
from tests.yaml_bombs import BOMBS


@pytest.mark.parametrize(
    ("content", "position", "words"),
    [
        (b"a: 1\nb: [1,\nc: 2", ", line 3", "cannot be read"),
        (b"a: 1\nb: [1,\nc: 2", ", line 3", r"expected ',' or '\]', but got '<stream end>'\."),
        (b"a: [1 2\nhunter2: x", ", line 2", r"expected ',' or '\]', but got"),
        (b"a: hunter2: x", ", line 1", "mapping values"),
        (b"a: 1\nb: 'hunter2", ", line 2", "quoted scalar|end of stream"),
        (b"a:\n\t- hunter2", ", line 2", "cannot start any token"),
        (b"s: */10 * * * *", ", line 1", "in quotes"),
        (b"p: *hunter2", ", line 1", "in quotes"),
        (b"p: @hunter2", ", line 1", "cannot start any token"),
        (b"p: !hunter2 x", ", line 1", "tag"),
        (b"p: !!python/object:hunter2.X {}", ", line 1", "tag"),
        (b"a: 1\n---\nhunter2: 2", ", line 2", "more than one document"),
        (b"a: \x01hunter2", "", "not valid YAML"),
        (b'a: "\\UFFFFFFFF"', "", "not valid YAML"),
        (b"a: !!bool hunter2", "", "not valid YAML"),
        (b"a: !!int ''", "", "not valid YAML"),
        (b"a: \xff", "", "UTF-8"),
        (b"- hunter2", "", "not a list of settings|key: value"),
        (b"hunter2", "", "key: value"),
        (b"a: 1\nb: {c: hunter2, c: x}\na: 3", "", "has 2 keys twice"),
        (b"a" * 2_000_000, "", "larger"),
    ],
)
def test_invalid_yaml_is_refused_with_its_position(tmp_path, content, position, words):
    path = tmp_path / "my.yaml"
    path.write_bytes(content)
    with pytest.raises(Configuration, match=words) as caught:
        read_yaml(path)
    error = caught.value
    assert error.where.startswith(f"{path}{position}")
    assert "hunter2" not in f"{error.what} {error.where.removeprefix(str(path))} {error.remedy} {error.detail}"
    assert error.__context__ is None or isinstance(error.__context__, UnicodeDecodeError)


@pytest.mark.parametrize("name", BOMBS)
def test_yaml_bombs_are_refused(tmp_path, name):
    content, says = BOMBS[name]
    path = tmp_path / "my.yaml"
    path.write_text(content)
    with pytest.raises(Configuration, match=says):
        read_yaml(path)


def test_keys_that_are_there_twice_are_named_with_both_lines(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("gc:\n  name: a\n  name: b\nl:\n  - {x: 1, x: 2}\ngc: {}\n")
    with pytest.raises(Configuration) as caught:
        read_yaml(path)
    assert caught.value.detail.splitlines() == [
        "- gc.name (lines 2 and 3)",
        "- l.0.x (lines 5 and 5)",
        "- gc (lines 1 and 6)",
    ]


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(Configuration, match="directory"):
        read_yaml(tmp_path)
    with pytest.raises(Configuration, match="does not exist") as caught:
        read_yaml(tmp_path / "no.yaml")
    assert f"`mlflow-ae5-deploy init {tmp_path}/no.yaml`" in caught.value.remedy


def test_a_tab_is_no_indentation(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("gc:\n\tname: a\n")
    with pytest.raises(Configuration) as caught:
        read_yaml(path)
    assert caught.value.remedy == "Indent with spaces, not with tabs."


def test_yaml_1_2_anchors_and_lines(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("\ufeffa: &x\n  on: yes\nb:\n  <<: *x\n  n: 010\n", encoding="utf-8")
    file = read_yaml(path)
    assert file.values == {"a": {"on": "yes"}, "b": {"on": "yes", "n": 10}}
    assert file.lines == {("a",): 1, ("a", "on"): 2, ("b",): 3, ("b", "n"): 5}
