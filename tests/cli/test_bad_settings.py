"""Settings that cannot be right are refused by name, before anything reaches the platform."""

from __future__ import annotations

import pytest

from tests.cli.answers import assert_error

# a line or more of configuration -> the words of the answer: where it is, what is wrong, what would be right
SETTINGS = [
    ("project: {name: 'mlflow:server'}", ["project.name", "line 1", ": / , * ?"]),
    ("project: {name: 'mlflow*'}", ["project.name", ": / , * ?"]),
    ("deployment: {name: 'a/b'}", ["deployment.name", ": / , * ?"]),
    ("gc: {name: 'every [day]'}", ["gc.name", ": / , * ?"]),
    ("deployment: {endpoint: my_server}", ["deployment.endpoint", "one DNS label", "use 'my-server'"]),
    ("deployment: {endpoint: MyServer}", ["deployment.endpoint", "use 'myserver'"]),
    ("gc: {schedule: '*/8 * * * *'}", ["gc.schedule", "*/8", "divide"]),
    ("gc: {schedule: '61 * * * *'}", ["gc.schedule"]),
    ("server: {gc_ttl: 30 days}", ["server.gc_ttl", "not a duration", "30d0h0m0s"]),
    ("server: {gc_ttl: ''}", ["server.gc_ttl"]),
    (
        "server: {backend_store_uri: 'mysql://host/mlflow'}",
        ["server.backend_store_uri", "no driver", "mysql+pymysql://"],
    ),
    ("server: {backend_store_uri: '/data/mydb.sqlite'}", ["server.backend_store_uri", "is not a database URI"]),
    ("server: {backend_store_uri: 'postgres://host/mlflow'}", ["server.backend_store_uri", "'postgresql'"]),
    ("server: {backend_store_uri: 'sqlite:///:memory:'}", ["server.backend_store_uri", "in-memory"]),
    ("platform: {hostname: 'http://ae5.example.com'}", ["platform.hostname", "with https://"]),
    ("platform: {read_timeout: soon}", ["platform.read_timeout", "must be a number"]),
    ("admin: {password: hunter2-plain}", ["admin.password", "env:NAME", "file:PATH"]),
    ("release: {sha256: abc}", ["release.sha256", "64 hexadecimal digits"]),
    ("deployments: {}", ["deployments (line 1): is not a setting", "did you mean 'deployment'"]),
    ("[1, 2]", ["not a group of settings"]),
    ("project: {name: [", ["line"]),
    ("profiles: {prod: {gc: {schedule: never}}}", ["profiles.prod.gc.schedule"]),
]


@pytest.mark.parametrize(("text", "words"), SETTINGS, ids=[row[0] for row in SETTINGS])
def test_a_wrong_setting_is_named_without_a_request(bench, capsys, text, words):
    path = bench.configure(text + "\n")
    bench.forget_calls()

    refused = bench.run(capsys, "install", "--sandbox", "--config", str(path))

    assert_error(refused, 3, str(path), *words)
    assert "hunter2" not in refused.out + refused.err
    assert bench.calls() == []


def test_all_wrong_settings_are_reported_at_once(bench, capsys):
    path = bench.configure("project: {name: 'a:b'}\ngc: {schedule: '*/8 * * * *'}\nnonsense: 1\n")

    refused = bench.run(capsys, "plan", "--sandbox", "--json", "--config", str(path))

    assert_error(refused, 3, "3 problems", "project.name", "gc.schedule", "nonsense")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["install"], ["platform.hostname", "--hostname", "AE5_HOSTNAME", "--sandbox"]),
        (["install", "--hostname", "ae5.example.com"], ["account.username", "--username", "AE5_USERNAME"]),
        (["install", "--hostname", "ae5.example.com/x", "--username", "svc"], ["platform.hostname", "without path"]),
        (["install", "--sandbox", "--config", "nowhere.yaml"], ["nowhere.yaml"]),
        (["install", "--sandbox", "--profile", "prod"], ["profile 'prod'"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_what_is_missing_on_the_command_line_is_named(bench, capsys, argv, words):
    bench.forget_calls()

    refused = bench.run(capsys, *argv)

    assert_error(refused, 3, *words)
    assert bench.calls() == []


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["install", "--sandbox", "--hostname", "ae5.example.com"], ["--hostname", "--sandbox"]),
        (["install", "--database", "postgresql", "--hostname", "h", "--username", "u"], ["--database", "--sandbox"]),
        (["install", "--sandbox", "--database", "oracle"], ["sqlite or postgresql"]),
        (["install", "--lock-wait", "long"], ["--lock-wait"]),
        (["install", "--nonsense"], ["--nonsense"]),
        (["deploy"], ["deploy"]),
        (["sandbox", "fly"], ["fly"]),
        (["sandbox", "logs", "--lines", "0"], ["--lines"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_an_impossible_command_line_is_refused_as_usage(bench, capsys, argv, words):
    bench.forget_calls()

    refused = bench.run(capsys, *argv)

    assert refused.code == 2
    for word in words:
        assert word in refused.err
    assert "do this" in refused.err
    assert refused.out == ""
    assert bench.calls() == []


def test_a_reference_that_leads_nowhere_is_named(bench, capsys):
    path = bench.configure("consumers: [{username: dev-user, password: 'env:NOT_SET_ANYWHERE'}]\n")

    refused = bench.run(
        capsys, "install", "--sandbox", "--json", "--release", str(bench.release), "--config", str(path)
    )

    assert_error(refused, 3, "NOT_SET_ANYWHERE", "password of dev-user", "is not set", "file:PATH")


@pytest.mark.parametrize(
    ("words", "variable", "remedy"),
    [
        (["--hostname", "ae5:99999"], "", "Correct it on the command line"),
        (["--hostname", "ae5.example.com", "--username", "a b"], "", "Correct it on the command line"),
        ([], "a:b:c", "Correct AE5_HOSTNAME in the environment, or unset it."),
    ],
)
def test_the_remedy_fits_to_where_the_value_was_given(bench, capsys, monkeypatch, words, variable, remedy):
    if variable:
        monkeypatch.setenv("AE5_HOSTNAME", variable)

    refused = bench.run(capsys, "plan", *words)

    assert_error(refused, 3, remedy)
    assert ("\n  where    command line\n" in refused.err) == bool(words)
    assert refused.err.strip().splitlines()[0].endswith(".")
    assert "init" not in refused.err
