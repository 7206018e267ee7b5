"""The annotated file is the documentation, the schema check and the fixture: it cannot fall out of step."""

from __future__ import annotations

import json
import re
import stat
import textwrap
from importlib.resources import files
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.config.environment import CA_VARIABLE, CONFIG_VARIABLE, NAMES
from mlflow_ae5_deploy.config.initial import SCHEMA, write_initial
from mlflow_ae5_deploy.config.load import load
from mlflow_ae5_deploy.config.problems import model_in
from mlflow_ae5_deploy.config.secret_refs import SecretRef
from mlflow_ae5_deploy.config.settings import Settings
from mlflow_ae5_deploy.config.yaml_file import read_yaml
from tools.annotated_settings import reference_yaml

PAGES = sorted((Path(__file__).parents[2] / "runbooks").rglob("*.md"))
SAMPLES = [
    textwrap.dedent(block)
    for page in PAGES
    for _, block in re.findall(r"^( *)```yaml\n(.*?)^\1```", page.read_text(encoding="utf-8"), re.M | re.S)
]
assert SAMPLES, "no page has a sample of the configuration"
PAGE = Path(__file__).parents[2] / "runbooks" / "reference" / "settings.md"


@pytest.fixture
def reference(tmp_path):
    path = tmp_path / "reference.yaml"
    path.write_text(files("mlflow_ae5_deploy.config").joinpath("reference.yaml").read_text(encoding="utf-8"))
    return path


def test_loading_it_gives_the_defaults(reference):
    assert load(reference, profile=None, environ={}, overrides={}).settings == Settings()


def test_it_has_every_setting_and_no_other(reference):
    values = read_yaml(reference).values
    assert set(values) == {*Settings.model_fields, "profiles"}
    for section, field in Settings.model_fields.items():
        if isinstance(values[section], dict):
            model = model_in(field.annotation)
            assert model is not None
            assert list(values[section]) == list(model.model_fields)


def test_every_setting_has_a_comment_before_it(reference):
    lines = reference.read_text().splitlines()
    keys = [number for number, line in enumerate(lines) if re.match(r"(  )?[a-z0-9_]+:", line)]
    keys = [number for number in keys if number < lines.index("profiles:")]
    assert len(keys) == len(Settings.model_fields) + sum(
        len(model.model_fields)
        for field in Settings.model_fields.values()
        if isinstance(field.annotation, type) and (model := model_in(field.annotation))
    )
    assert [lines[number] for number in keys if not lines[number - 1].lstrip().startswith("# ")] == []


@pytest.mark.parametrize("start", ["  # commands:", "# consumers:"])
def test_the_examples_in_it_are_valid(tmp_path, start):
    text = reference_yaml()
    block = re.search(rf"^{start}\n(?: *# .*\n)+", text, re.MULTILINE)
    assert block is not None
    section = textwrap.dedent(re.sub(r"^( *)# ", r"\1", block.group(), flags=re.MULTILINE))
    if start.startswith(" "):
        section = "slipstream:\n" + textwrap.indent(section, "  ")
    path = tmp_path / "example.yaml"
    path.write_text(section)
    settings = load(path, profile=None, environ={}, overrides={}).settings
    assert settings.slipstream.commands or settings.consumers


def test_the_references_profiles_load(reference):
    dev = load(reference, profile="dev", environ={}, overrides={}).settings
    prod = load(reference, profile="prod", environ={}, overrides={}).settings
    assert dev == Settings()
    assert prod.server.backend_store_uri == SecretRef("env", "MLFLOW_BACKEND_STORE_URI")
    assert prod.deployment.endpoint != dev.deployment.endpoint
    assert prod.account.username != dev.account.username
    assert prod.platform == dev.platform


def test_the_page_has_every_environment_variable():
    text = PAGE.read_text(encoding="utf-8")
    for variable in (*(name.variable for name in NAMES), CA_VARIABLE, CONFIG_VARIABLE):
        assert f"`{variable}`" in text


class TestInitial:
    def test_is_filled_in_private_and_loads(self, tmp_path):
        path = write_initial(tmp_path / "my.yaml", hostname="AE5.example.com:8443", username="mlflow-service")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert sorted(entry.name for entry in tmp_path.iterdir()) == [SCHEMA, "my.yaml"]
        result = load(path, profile=None, environ={}, overrides={})
        changed = Settings().model_copy(
            update={
                "platform": Settings().platform.model_copy(update={"hostname": "ae5.example.com:8443"}),
                "account": Settings().account.model_copy(update={"username": "mlflow-service"}),
            }
        )
        assert result.settings == changed
        assert result.warnings == ()
        for profile in ("dev", "prod"):
            shared = load(path, profile=profile, environ={}, overrides={}).settings.platform
            assert shared.hostname == "ae5.example.com:8443"

    def test_initial_file_without_values_keeps_the_defaults(self, tmp_path):
        path = write_initial(tmp_path / "my.yaml")
        assert load(path, profile=None, environ={}, overrides={}).settings == Settings()

    def test_does_not_overwrite_unless_forced(self, tmp_path):
        path = tmp_path / "my.yaml"
        path.write_text("mine")
        path.chmod(0o644)
        with pytest.raises(Configuration, match="not overwritten"):
            write_initial(path)
        assert path.read_text() == "mine"
        assert [entry.name for entry in tmp_path.iterdir()] == ["my.yaml"]
        write_initial(path, force=True)
        assert path.read_text() == reference_yaml()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert sorted(entry.name for entry in tmp_path.iterdir()) == [SCHEMA, "my.yaml"]

    def test_a_dangling_link_is_not_followed(self, tmp_path):
        (tmp_path / "my.yaml").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(Configuration, match="not overwritten"):
            write_initial(tmp_path / "my.yaml")
        assert not (tmp_path / "elsewhere").exists()

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({"hostname": "http://ae5.example.com"}, "platform.hostname: must be an address with https://"),
            ({"hostname": 'x"\nadmin: {}'}, "platform.hostname"),
            ({"username": "a b"}, "account.username"),
        ],
    )
    def test_refuses_values_that_would_not_load(self, tmp_path, given, words):
        with pytest.raises(Configuration, match=words):
            write_initial(tmp_path / "my.yaml", **given)
        assert list(tmp_path.iterdir()) == []

    def test_where_nothing_can_be_written(self, tmp_path):
        with pytest.raises(Configuration, match="cannot be written"):
            write_initial(tmp_path / "no" / "my.yaml")

    def test_names_the_file_that_cannot_be_written(self, tmp_path):
        (tmp_path / "mlflow-ae5-deploy.schema.json").mkdir()

        with pytest.raises(Configuration) as refused:
            write_initial(tmp_path / "my.yaml")
        assert refused.value.where == str(tmp_path / "mlflow-ae5-deploy.schema.json")


@pytest.fixture(scope="module")
def schema():
    made = json.loads(files("mlflow_ae5_deploy.config").joinpath("schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(made)
    return Draft202012Validator(made)


class TestSchema:
    """What an editor accepts is what the tool accepts, as far as a schema can say it."""

    def test_the_file_names_the_schema_beside_it(self, tmp_path, schema):
        path = write_initial(tmp_path / "elsewhere.yaml")
        named = re.match(r"# yaml-language-server: \$schema=(\S+)\n", path.read_text())
        assert json.loads((path.parent / named[1]).read_text()) == schema.schema
        schema.validate(read_yaml(path).values)

    def test_an_older_schema_is_replaced_and_a_link_is_not_followed(self, tmp_path, schema):
        (tmp_path / "other").write_text("mine")
        (tmp_path / SCHEMA).symlink_to("other")
        write_initial(tmp_path / "my.yaml")
        assert json.loads((tmp_path / SCHEMA).read_text()) == schema.schema
        assert (tmp_path / "other").read_text() == "mine"

    @pytest.mark.parametrize("text", SAMPLES, ids=range(len(SAMPLES)))
    def test_every_sample_of_the_pages_is_valid(self, text, schema):
        schema.validate(YAML(typ="safe", pure=True).load(text))

    @pytest.mark.parametrize(
        "text",
        [
            "admin:\nserver:\n  secrets:\nprofiles:\n  dev:\n",
            "platform: {read_timeout: 5, session: built-in}",
            "account: {password: prompt}\nadmin: {password: 'env:NAME'}",
            "profiles: {prod: {state_dir: null, server: {secrets: {A: 'file:a.txt'}}}}",
        ],
    )
    def test_accepts_what_loads(self, text, tmp_path, schema):
        (tmp_path / "c.yaml").write_text(text)
        load(tmp_path / "c.yaml", profile=None, environ={}, overrides={})
        schema.validate(YAML(typ="safe", pure=True).load(text))

    @pytest.mark.parametrize(
        ("text", "where"),
        [
            ("platform: {hostnam: ae5.example.com}", ["platform"]),
            ("plattform: {}", []),
            ("platform: {verify_tls: 'no'}", ["platform", "verify_tls"]),
            ("platform: {session: telnet}", ["platform", "session"]),
            ("platform: {read_timeout: 0}", ["platform", "read_timeout"]),
            ("account: {password: hunter2}", ["account", "password"]),
            ("server: {secrets: {KEY: value}}", ["server", "secrets", "KEY"]),
            ("gc: {schedule: null}", ["gc", "schedule"]),
            ("backup: {keep_last: 1.5}", ["backup", "keep_last"]),
            ("consumers: [{password: prompt}]", ["consumers", 0]),
            ("consumers: null", ["consumers"]),
            ("profiles: {prod: {account: {user: a}}}", ["profiles", "prod", "account"]),
        ],
    )
    def test_rejects_what_does_not_load(self, text, where, tmp_path, schema):
        (tmp_path / "c.yaml").write_text(text)
        with pytest.raises(Configuration):
            load(tmp_path / "c.yaml", profile=None, environ={}, overrides={})
        assert where in [
            list(error.absolute_path) for error in _leaves(schema.iter_errors(YAML(typ="safe", pure=True).load(text)))
        ]


def _leaves(errors):
    for error in errors:
        yield error
        yield from _leaves(error.context)
