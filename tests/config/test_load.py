"""Putting the settings together: precedence, sources, profiles, relative paths, and all problems at once."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.config.load import LoadedSettings, load
from mlflow_ae5_deploy.config.secret_refs import SecretRef
from mlflow_ae5_deploy.config.settings import Settings
from tests.yaml_bombs import ODD_VALUES

Load = Callable[..., LoadedSettings]


@pytest.fixture
def loaded(tmp_path):
    """Loads a text as the configuration of an otherwise empty folder."""

    def run(text=None, *, profile=None, environ=None, flags=None, sandbox=False):
        path = None
        if text is not None:
            path = tmp_path / "conf" / "my.yaml"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            path.chmod(0o600)
        return load(path, profile=profile, environ=environ or {}, overrides=flags or {}, sandbox=sandbox, cwd=tmp_path)

    return run


LAYERED = """
platform: {hostname: file.example.com}
profiles:
  prod:
    platform: {hostname: profile.example.com}
"""


@pytest.mark.parametrize(
    ("profile", "environ", "flags", "hostname", "source"),
    [
        (None, {}, {}, "file.example.com", "file"),
        ("prod", {}, {}, "profile.example.com", "profile prod"),
        ("prod", {"AE5_HOSTNAME": "env.example.com"}, {}, "env.example.com", "environment AE5_HOSTNAME"),
        (None, {"AE5_HOSTNAME": "env.example.com"}, {}, "env.example.com", "environment AE5_HOSTNAME"),
        ("prod", {"AE5_HOSTNAME": ""}, {}, "profile.example.com", "profile prod"),
        (
            "prod",
            {"AE5_HOSTNAME": "env.example.com"},
            {"platform.hostname": "flag.example.com"},
            "flag.example.com",
            "flag",
        ),
        (None, {}, {"platform.hostname": None}, "file.example.com", "file"),
    ],
)
def test_flags_win_over_environment_profile_and_file(loaded, profile, environ, flags, hostname, source):
    result = loaded(LAYERED, profile=profile, environ=environ, flags=flags)
    assert (result.settings.platform.hostname, result.sources["platform.hostname"]) == (hostname, source)
    assert result.sources["gc.schedule"] == "default"
    assert result.profile == profile


def test_nothing_at_all_is_the_defaults(loaded):
    result = loaded()
    assert result.settings == Settings()
    assert result.path is None
    assert set(result.sources.values()) == {"default"}
    assert {"state_dir", "consumers", "slipstream.variables", "server.backend_store_uri"} <= set(result.sources)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing\n",
        "{}\n",
        "platform:\ngc:\n  variables:\nslipstream:\n  commands:\nprofiles:\n",
        "profiles: {dev: }",
    ],
)
def test_blank_groups_say_nothing(loaded, text):
    assert loaded(text).settings == Settings()


def test_environment_names_of_ae5_tools(loaded, tmp_path):
    environ = {
        "AE5_HOSTNAME": "ae5.example.com",
        "AE5_USERNAME": "mlflow-service",
        "AE5_PASSWORD": "hunter2",
        "AE5_ADMIN_USERNAME": "admin",
        "AE5_ADMIN_PASSWORD": "hunter3",
        "AE5_IMPERSONATE": "y",
        "AE5_TLS_VERIFY": "Off",
        "AE5_CLIENT_CERT_PATH": "client.pem",
        "REQUESTS_CA_BUNDLE": "/etc/ca.pem",
        "MLFLOW_AE5_DEPLOY_STATE": "state",
    }
    result = loaded(environ=environ)
    settings = result.settings
    assert settings.account.password == SecretRef("env", "AE5_PASSWORD")
    assert settings.admin.password == SecretRef("env", "AE5_ADMIN_PASSWORD")
    assert (settings.admin.username, settings.account.impersonate) == ("admin", True)
    assert (settings.platform.verify_tls, settings.platform.ca_file) == (False, Path("/etc/ca.pem"))
    assert (settings.platform.client_cert, settings.state_dir) == (tmp_path / "client.pem", tmp_path / "state")
    assert sorted(source for source in result.sources.values() if source != "default") == sorted(
        f"environment {name}" for name in environ
    )
    assert "hunter" not in repr(result)


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        *(("AE5_IMPERSONATE", text, True) for text in ("1", "true", "YES", "on", "t", "y", " True ")),
        *(("AE5_IMPERSONATE", text, False) for text in ("0", "false", "No", "off", "f", "n", "")),
        *(("AE5_TLS_VERIFY", text, True) for text in ("1", "True", "yes", "on", "")),
        *(("AE5_TLS_VERIFY", text, False) for text in ("0", "FALSE", "no", "off")),
        *(("AE5_TLS_VERIFY", text, None) for text in ("t", "maybe", "/etc/ca.pem", "2")),
        ("AE5_IMPERSONATE", "2", None),
    ],
)
def test_boolean_variables_are_read_as_ae5_tools_does(loaded, variable, text, value):
    if value is None:
        with pytest.raises(Configuration, match=rf"\(environment {variable}\): must be one of true, false"):
            loaded(environ={variable: text})
        return
    settings = loaded(environ={variable: text}).settings
    assert (settings.account.impersonate if variable == "AE5_IMPERSONATE" else settings.platform.verify_tls) is value


@pytest.mark.parametrize(
    ("text", "ca_file"),
    [("platform: {ca_file: own.pem}", "conf/own.pem"), ("platform: {ca_file: null}", "env.pem"), ("", "env.pem")],
)
def test_ca_bundle_of_the_environment_is_below_the_file(loaded, tmp_path, text, ca_file):
    result = loaded(text, environ={"REQUESTS_CA_BUNDLE": "env.pem"})
    assert result.settings.platform.ca_file == tmp_path / ca_file


def test_profiles_share_the_base(loaded):
    text = """
    gc: {variables: {A: base, B: base}}
    sharing: {groups: [g1, g2]}
    consumers: [{username: jo}]
    platform: {ca_file: x.pem}
    profiles:
      prod:
        gc: {variables: {B: prod, C: prod}, schedule: "0 3 * * *"}
        sharing: {groups: [g3]}
        platform: {ca_file: null}
      dev:
        consumers: []
    """
    prod = loaded(text, profile="prod")
    assert prod.settings.gc.variables == {"A": "base", "B": "prod", "C": "prod"}
    assert prod.settings.sharing.groups == ["g3"]
    assert prod.settings.platform.ca_file is None
    assert [consumer.username for consumer in prod.settings.consumers] == ["jo"]
    named = {path: source for path, source in prod.sources.items() if source != "default"}
    assert named == {
        "gc.variables.A": "file",
        "gc.variables.B": "profile prod",
        "gc.variables.C": "profile prod",
        "gc.schedule": "profile prod",
        "sharing.groups": "profile prod",
        "platform.ca_file": "profile prod",
        "consumers": "file",
    }
    assert loaded(text, profile="dev").settings.consumers == []
    assert loaded(text).settings.gc.schedule == "*/10 * * * *"


@pytest.mark.parametrize(
    ("text", "words", "remedy"),
    [
        (None, "no configuration file", "init"),
        ("{}", "no profile 'prod'", "no profiles"),
        ("profiles: {dev: {}, test: {}}", "no profile 'prod'", "The profiles are: dev, test."),
    ],
)
def test_an_unknown_profile_is_refused(loaded, text, words, remedy):
    with pytest.raises(Configuration, match=words) as caught:
        loaded(text, profile="prod")
    assert remedy in caught.value.remedy


def test_flags_win_over_the_file(loaded, tmp_path):
    result = loaded(
        "gc: {variables: {A: file}}",
        flags={
            "gc.variables": {"B": "flag"},
            "gc.variables.C": "flag",
            "sharing.groups": ("g1",),
            "release.source": Path("x.tar.gz").name,
            "slipstream.overlay": Path("over"),
            "server.backend_store_uri": SecretRef("held"),
        },
    )
    settings = result.settings
    assert settings.gc.variables == {"A": "file", "B": "flag", "C": "flag"}
    assert settings.sharing.groups == ["g1"]
    assert settings.release.source == str(tmp_path / "x.tar.gz")
    assert settings.slipstream.overlay == tmp_path / "over"
    assert settings.server.backend_store_uri == SecretRef("held")


@pytest.mark.parametrize(
    ("source", "kept"),
    [
        ("bundled", "bundled"),
        ("latest", "latest"),
        ("1.2.3", "1.2.3"),
        ("https://h/x.tar.gz", "https://h/x.tar.gz"),
        ("x.tar.gz", "{folder}/x.tar.gz"),
        ("./x", "{folder}/./x"),
        ("/abs/x.zip", "/abs/x.zip"),
    ],
)
def test_relative_paths_are_below_the_file(loaded, tmp_path, source, kept):
    folder = tmp_path / "conf"
    text = f"""
    release: {{source: {source}, cache_dir: cache, mirror: mirror}}
    account: {{password: "file:pw.txt"}}
    admin: {{password: "file:/run/pw"}}
    consumers: [{{username: jo, password: "file:jo.txt"}}]
    server: {{secrets: {{A: "file:a.txt"}}, backend_store_uri: "file:db.txt", artifacts_destination: data/x}}
    """
    settings = loaded(text).settings
    assert settings.release.mirror == str(folder / "mirror")
    assert Path(settings.release.source) == Path(kept.format(folder=folder))
    assert settings.release.cache_dir == folder / "cache"
    assert str(settings.account.password) == f"file:{folder}/pw.txt"
    assert str(settings.admin.password) == "file:/run/pw"
    assert str(settings.consumers[0].password) == f"file:{folder}/jo.txt"
    assert str(settings.server.secrets["A"]) == f"file:{folder}/a.txt"
    assert str(settings.server.backend_store_uri) == f"file:{folder}/db.txt"
    assert settings.server.artifacts_destination == "data/x", "that one is a folder of the server"


ALL_WRONG = """\
platform:
  hostnam: x
  verify_tls: yes
account:
  password: hunter2
deployment:
  endpoint: Dev_Mlflow
server:
  secrets:
    OK: hunter2
sharing:
  groups:
    - a
    - 5
profiles:
  prod:
    gc:
      schedule: "*/8 * * * *"
  dev:
    gc: {nme: x}
"""


def test_all_problems_at_once_with_path_and_line(loaded):
    environ = {"AE5_TLS_VERIFY": "maybe", "AE5_HOSTNAME": "http://x"}
    with pytest.raises(Configuration) as caught:
        loaded(ALL_WRONG, environ=environ, flags={"gc.name": "x*", "deployment.endpoint": "fine"})
    error = caught.value
    listed = {line.removeprefix("- ").partition("):")[0] + ")" for line in error.detail.splitlines()}
    assert listed == {
        "platform.hostnam (line 2)",
        "platform.verify_tls (line 3)",
        "account.password (line 5)",
        "deployment.endpoint (line 7)",
        "server.secrets.OK (line 10)",
        "sharing.groups.1 (line 14)",
        "profiles.prod.gc.schedule (line 18)",
        "profiles.dev.gc.nme (line 20)",
        "platform.verify_tls (environment AE5_TLS_VERIFY)",
        "platform.hostname (environment AE5_HOSTNAME)",
        "gc.name (command line)",
    }
    assert error.what == "The configuration has 11 problems."
    assert error.where.endswith("conf/my.yaml")
    assert "hunter2" not in error.detail
    assert error.__cause__ is None
    assert error.__context__ is None, "the chain must not lead to the values either"


def test_a_single_problem_is_the_sentence_itself(loaded):
    with pytest.raises(Configuration) as caught:
        loaded("deployment: {endpoint: Dev_Mlflow}")
    assert caught.value.what.startswith("deployment.endpoint (line 1): must be one DNS label")
    assert caught.value.detail == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("profiles: [dev]", r"profiles \(line 1\): must be a group"),
        ("profiles: {dev: 5}", r"profiles.dev \(line 1\): must be a group"),
        ("profiles: {'a b': {}}", "may contain only letters"),
        ("profiles: {dev: {profiles: {}}}", r"profiles.dev.profiles \(line 1\): is not a setting"),
        ("3: x", "its name must be text"),
        ("? [a, b]\n: x", "its name must be text"),
    ],
)
def test_misshapen_files_are_refused(loaded, text, words):
    with pytest.raises(Configuration, match=words):
        loaded(text)


REAL = """
platform: {hostname: ae5.example.com, ca_file: ca.pem, read_timeout: 5}
account: {username: svc, password: "env:PW", impersonate: true}
admin: {username: root, password: prompt}
server:
  backend_store_uri: env:PRODUCTION
  artifacts_destination: %s
gc: {variables: {MLFLOW_BACKEND_STORE_URI: "postgresql+psycopg://u@h/d", A: b}}
profiles:
  prod: {server: {backend_store_uri: "postgresql+psycopg://u@h/d"}}
"""


@pytest.mark.parametrize(
    ("artifacts", "kept"),
    [
        ("data/mlflow/prod", True),
        ("s3://bucket/x", False),
        ("/data/mlflow", False),
        ("file:/data", False),
    ],
)
def test_sandbox_ignores_settings_of_real_systems(loaded, artifacts, kept):
    defaults = Settings()
    environ = {
        "AE5_HOSTNAME": "env.example.com",
        "AE5_PASSWORD": "x",
        "AE5_TLS_VERIFY": "maybe",
        "REQUESTS_CA_BUNDLE": "x",
    }
    result = loaded(
        REAL % artifacts,
        profile="prod",
        environ=environ,
        flags={"platform.ca_file": "/sandbox/ca.pem"},
        sandbox=True,
    )
    settings = result.settings
    assert settings.platform.hostname is None
    assert (settings.platform.ca_file, settings.platform.read_timeout) == (Path("/sandbox/ca.pem"), 5)
    assert (settings.account.username, settings.account.password, settings.account.impersonate) == (None, None, False)
    assert settings.admin == defaults.admin
    assert settings.server.backend_store_uri == defaults.server.backend_store_uri
    assert settings.server.artifacts_destination == (artifacts if kept else defaults.server.artifacts_destination)
    assert settings.gc.variables == {"A": "b"}
    (warning,) = result.warnings
    assert "server.backend_store_uri" in warning
    assert ("server.artifacts_destination" in warning) is not kept


def test_sandbox_ignores_environment_variables_of_real_platforms(loaded, tmp_path):
    environ = {"AE5_HOSTNAME": "h", "REQUESTS_CA_BUNDLE": "ca.pem", "MLFLOW_AE5_DEPLOY_STATE": "state"}
    result = loaded(environ=environ, sandbox=True)
    assert result.settings == Settings(state_dir=tmp_path / "state")


@pytest.mark.parametrize(
    ("uri", "kept"),
    [
        ("sqlite:///data/x.db", True),
        ("sqlite:////data/x.db", False),
        ("postgresql+psycopg://u@h/d", False),
        ("env:DB", False),
        ("prompt", False),
    ],
)
def test_the_sandbox_keeps_relative_databases_only(loaded, uri, kept):
    result = loaded(f"server: {{backend_store_uri: '{uri}'}}", sandbox=True)
    store = result.settings.server.backend_store_uri
    assert store == (uri if kept else Settings().server.backend_store_uri)
    assert bool(result.warnings) is not kept


@pytest.mark.parametrize(
    ("file", "kept"),
    [
        ("token", True),
        ("scraper/token", True),
        ("..token", True),
        ("a..b/token", True),
        ("/run/token", False),
        ("~/token", False),
        ("../token", False),
        ("sub/../../token", False),
        ("sub/..", False),
    ],
)
def test_the_sandbox_keeps_token_files_below_the_configuration_only(loaded, file, kept):
    result = loaded(f"consumers: [{{file: '{file}'}}, {{username: jdoe}}]", sandbox=True)
    assert [path.name for path in result.settings.token_files] == ([Path(file).name] if kept else [])
    assert list(result.settings.consumer_accounts) == ["jdoe"]
    assert ["consumers.file" in warning for warning in result.warnings] == ([] if kept else [True])


def test_sandbox_keeps_the_stores_named_by_a_flag(loaded):
    uri = "postgresql+psycopg://postgres:@/postgres?host=/run/pg"
    settings = loaded(sandbox=True, flags={"server.backend_store_uri": uri}).settings
    assert settings.server.backend_store_uri == uri


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("platform: {verify_tls: false}", "verify_tls is off"),
        ("server: {backend_store_uri: 'postgresql://u@h/d'}", r"names no driver"),
        ("server: {gc_ttl: 0d0h0m0s}", "server.gc_ttl is 0d0h0m0s: .* at once"),
        ("gc: {variables: {MLFLOW_TRACKING_GC_TTL: 0s}}", "gc.variables.MLFLOW_TRACKING_GC_TTL is 0s: .* at once"),
    ],
)
def test_risky_settings_are_warned_of(loaded, text, words):
    (warning,) = loaded(text).warnings
    assert re.search(words, warning)


def test_warns_about_a_file_others_can_change(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("{}")
    for mode, count in ((0o600, 0), (0o644, 0), (0o664, 1), (0o646, 1)):
        path.chmod(mode)
        result = load(path, profile=None, environ={}, overrides={})
        assert len(result.warnings) == count, oct(mode)


def test_which_file_is_read(tmp_path):
    def name_of(path, environ):
        result = load(path, profile=None, environ=environ, overrides={}, cwd=tmp_path)
        return result.path.name if result.path else ""

    (tmp_path / "other.yaml").write_text("{}")
    by_environment = {"MLFLOW_AE5_DEPLOY_CONFIG": "other.yaml"}
    assert name_of(None, {}) == ""
    assert name_of(None, by_environment) == "other.yaml"
    (tmp_path / "mlflow-ae5-deploy.yaml").write_text("{}")
    (tmp_path / "explicit.yaml").write_text("{}")
    assert name_of(None, {}) == "mlflow-ae5-deploy.yaml"
    assert name_of(None, by_environment) == "other.yaml"
    assert name_of(Path("explicit.yaml"), by_environment) == "explicit.yaml"
    for path, environ in ((Path("gone.yaml"), {}), (None, {"MLFLOW_AE5_DEPLOY_CONFIG": "gone.yaml"})):
        with pytest.raises(Configuration, match="does not exist") as caught:
            name_of(path, environ)
        assert caught.value.where == str(tmp_path / "gone.yaml")


@pytest.mark.parametrize("value", ODD_VALUES, ids=lambda value: ascii(value[:30]))
def test_an_odd_value_is_a_value_or_refused(loaded, value):
    single = ("server: {gc_ttl: %s}", "platform: {read_timeout: %s}", "slipstream: {variables: {A: %s}}")
    inside = ("server: %s", "slipstream: {variables: {? %s : x}}", "consumers: [%s]")
    for form in (*single, "\n".join(single), *inside, "%s", "? %s\n: 1"):
        with contextlib.suppress(Configuration):
            loaded(form.replace("%s", value))
