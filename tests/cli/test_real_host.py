"""A cluster instead of the sandbox: reached through ae5-tools only. Where that is installed, the sandbox plays the
cluster, and everything is as an administrator would have it: the environment of ae5-tools and no --sandbox."""

from __future__ import annotations

import importlib.util
import socket

import pytest

from tests.cli.answers import assert_error, errors_of
from tests.cli.bench import ACCOUNT
from tests.sandbox.support import Admin, credentials

HAS_AE5_TOOLS = importlib.util.find_spec("ae5_tools") is not None
through_ae5_tools = pytest.mark.skipif(
    not HAS_AE5_TOOLS, reason="ae5-tools is not installed here (conda channel ae5-admin)"
)


@pytest.fixture
def cluster(bench, monkeypatch):
    """The bench's sandbox, as the environment of ae5-tools describes a cluster. Passwords are the right ones."""
    logins = credentials(bench.info)
    monkeypatch.setenv("AE5_HOSTNAME", bench.info.hostname)
    monkeypatch.setenv("AE5_USERNAME", ACCOUNT)
    monkeypatch.setenv("AE5_PASSWORD", logins["reserved"][ACCOUNT])
    monkeypatch.setenv("AE5_ADMIN_USERNAME", logins["admin"]["username"])
    monkeypatch.setenv("AE5_ADMIN_PASSWORD", logins["admin"]["password"])
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bench.info.ca_file))
    bench.forget_calls()
    return bench


class TestWithoutAe5Tools:
    def test_the_built_in_session_is_refused(self, cluster, capsys):
        refused = cluster.run(capsys, "install", "--session", "built-in")

        assert_error(refused, 3, "built-in", "sandbox only", "platform.session", "ae5-tools")
        assert cluster.calls() == []

    @pytest.mark.skipif(HAS_AE5_TOOLS, reason="ae5-tools is installed here")
    @pytest.mark.parametrize("verb", ["install", "plan", "verify", "env"])
    def test_a_missing_ae5_tools_is_an_error_with_the_install_command(self, cluster, capsys, verb):
        refused = cluster.run(capsys, verb)

        assert_error(refused, 3, "ae5-tools", "cannot be imported", "conda create --name mlflow-ae5-deploy")
        assert cluster.calls() == []

    @pytest.mark.skipif(HAS_AE5_TOOLS, reason="ae5-tools is installed here")
    def test_ae5_tools_on_the_sandbox_too_is_refused_when_it_is_missing(self, bench, capsys):
        refused = bench.run(capsys, "plan", "--sandbox", "--session", "ae5-tools")

        assert_error(refused, 3, "ae5-tools", "conda create --name mlflow-ae5-deploy")


@pytest.fixture
def old_ae5_tools(tmp_path, monkeypatch):
    """Found first, and not to be imported: it would hang."""
    package, described = tmp_path / "old" / "ae5_tools", tmp_path / "old" / "ae5_tools-0.7.2.dist-info"
    package.mkdir(parents=True)
    described.mkdir()
    (package / "__init__.py").write_text("raise BaseException('imported')")
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: ae5-tools\nVersion: 0.7.2\n")
    monkeypatch.syspath_prepend(tmp_path / "old")


class TestOldAe5Tools:
    TOO_OLD = ("ae5-tools 0.7.2 is too old", "0.7.3 or newer", "conda install", "'ae5-tools>=0.7.3'")

    @pytest.mark.parametrize("verb", ["plan", "install"])
    def test_the_runbook_refuses_it_in_its_second_stage(self, cluster, capsys, old_ae5_tools, verb):
        refused = cluster.run(capsys, verb, "--json")

        assert_error(refused, 3, "stage 2 (environment)", *self.TOO_OLD)
        assert cluster.calls() == []

    @pytest.mark.parametrize(
        "verb",
        ["verify", "status", "rotate-token", "schedule-gc", "env", "open", "logs", "backup", "restore", "uninstall"],
    )
    def test_every_verb_refuses_it(self, cluster, capsys, old_ae5_tools, verb):
        refused = cluster.run(capsys, verb)

        assert_error(refused, 3, *self.TOO_OLD)
        assert cluster.calls() == []

    def test_the_doctor_names_it(self, cluster, capsys, old_ae5_tools):
        seen = cluster.run(capsys, "doctor")

        assert "0.7.2 is older than 0.7.3" in seen.out
        assert seen.code != 0

    def test_the_sandbox_does_not_need_it(self, bench, capsys, old_ae5_tools):
        assert bench.run(capsys, "plan", "--sandbox").code == 0


@through_ae5_tools
class TestAddress:
    @pytest.mark.parametrize("verb", ["install", "plan"])
    def test_a_host_nobody_knows(self, cluster, capsys, verb):
        refused = cluster.run(capsys, verb, "--json", "--hostname", "ae5.nowhere.invalid")

        assert_error(refused, 10, "ae5.nowhere.invalid", "does not resolve", "platform.hostname")
        assert cluster.calls() == []

    def test_a_host_where_nothing_listens(self, cluster, capsys):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]

            refused = cluster.run(capsys, "install", "--hostname", f"localhost:{port}")

        assert_error(refused, 10, f"localhost:{port}", "refuses the connection")

    def test_a_host_that_is_something_else(self, cluster, capsys):
        control = cluster.info.control_url.removeprefix("https://").rstrip("/")

        refused = cluster.run(capsys, "install", "--hostname", control)

        assert refused.code in (11, 15, 16, 17), refused.err
        assert_error(refused, refused.code, control)

    def test_a_certificate_of_an_unknown_authority(self, cluster, capsys, monkeypatch):
        monkeypatch.delenv("REQUESTS_CA_BUNDLE")

        refused = cluster.run(capsys, "install")

        assert_error(refused, 10, "unknown authority", "platform.ca_file", cluster.info.hostname)
        assert cluster.calls() == []

    def test_verification_is_switched_off_by_name_only_and_is_warned_about(self, cluster, capsys, monkeypatch):
        monkeypatch.delenv("REQUESTS_CA_BUNDLE")
        monkeypatch.setenv("AE5_TLS_VERIFY", "false")

        planned = cluster.run(capsys, "plan")

        assert "verify_tls is off" in planned.err


NOBODY = {"AE5_PASSWORD": None, "AE5_ADMIN_USERNAME": None, "AE5_ADMIN_PASSWORD": None}


@through_ae5_tools
class TestAccount:
    """In order: the account is missing, is created, has a wrong password, is disabled. Three different messages."""

    def test_a_missing_account_is_not_created_without_the_option(self, cluster, capsys):
        refused = cluster.run(capsys, "install", "--json", "--release", str(cluster.release))

        assert_error(refused, 11, "stage 1 (service-account)", f"`{ACCOUNT}` does not exist", "--create-account")
        assert cluster.writes() == []

    def test_of_a_missing_account_nothing_is_installed(self, cluster, capsys, monkeypatch):
        monkeypatch.delenv("AE5_PASSWORD")

        seen = cluster.run(capsys, "status", "--json", "--release", str(cluster.release))

        assert (seen.code, seen.data["outcome"]) == (32, "not installed"), seen.err
        remedy = f"Run `mlflow-ae5-deploy install --release {cluster.release}`."
        assert errors_of(seen.data) == [f"Nothing is installed: the account does not exist. {remedy}"]
        assert cluster.writes() == []

    def test_without_admin_rights_a_missing_account_is_keycloaks_answer(self, cluster, capsys, monkeypatch):
        monkeypatch.delenv("AE5_ADMIN_USERNAME")

        refused = cluster.run(capsys, "install")

        assert_error(refused, 11, "rejected the name or the password", ACCOUNT)

    def test_create_account_creates_it_and_installs_everything(self, cluster, capsys):
        install = ("install", "--json", "--create-account", "--release", str(cluster.release))

        first = cluster.run(capsys, *install)
        cluster.forget_calls()
        second = cluster.run(capsys, *install)

        assert first.code == 0, first.err
        assert first.data["stages"][0]["outcome"] == "changed"
        assert second.code == 0, second.err
        assert second.data["outcome"] == "unchanged"
        assert second.data["writes"] == 0
        assert len([c for c in cluster.calls() if c["surface"] == "platform"]) <= 19  # 3 for the lock
        assert cluster.writes() == []

    def test_a_wrong_password_of_an_existing_account(self, cluster, capsys, monkeypatch):
        monkeypatch.setenv("AE5_PASSWORD", "wrong-account-password")
        before = cluster.everything()

        refused = cluster.run(capsys, "install", "--json", "--release", str(cluster.release))

        assert_error(refused, 11, f"password of `{ACCOUNT}` is wrong", "exists and is enabled", "impersonate")
        assert "wrong-account-password" not in refused.out + refused.err
        assert cluster.everything() == before

    def test_a_disabled_account(self, cluster, capsys):
        admin = Admin(cluster.info)
        (user,) = admin.call("GET", "users", params={"username": ACCOUNT, "exact": "true"}).json()
        assert admin.call("PUT", f"users/{user['id']}", json={"enabled": False}).ok
        cluster.forget_calls()

        refused = cluster.run(capsys, "install", "--json", "--release", str(cluster.release))

        assert_error(refused, 11, f"`{ACCOUNT}` exists but is disabled", "Enable it")
        assert cluster.writes() == []
        admin.call("PUT", f"users/{user['id']}", json={"enabled": True})

    @pytest.mark.parametrize(
        ("environment", "config", "code", "words"),
        [
            ({"AE5_ADMIN_PASSWORD": "wrong-admin-password"}, "{}", 11, ("administrator", "AE5_ADMIN_PASSWORD")),
            ({"AE5_ADMIN_PASSWORD": None}, "{}", 3, ("are incomplete", "admin.password", "AE5_ADMIN_PASSWORD")),
            (NOBODY, "{}", 3, ("No password", ACCOUNT, "AE5_PASSWORD")),
            (NOBODY, "account: {password: prompt}", 3, ("no terminal", "env:NAME")),
        ],
        ids=["a wrong administrator password", "an administrator without one", "no password", "a prompt"],
    )
    def test_wrong_or_missing_credentials(self, cluster, capsys, monkeypatch, environment, config, code, words):
        for name, value in environment.items():
            monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)

        refused = cluster.run(capsys, "install", "--config", str(cluster.configure(f"{config}\n")))

        assert_error(refused, code, *words)
        assert "wrong-admin-password" not in refused.out + refused.err

    def test_impersonation_needs_no_password_of_the_account(self, cluster, capsys, monkeypatch):
        monkeypatch.delenv("AE5_PASSWORD")
        monkeypatch.setenv("AE5_IMPERSONATE", "1")

        done = cluster.run(capsys, "install", "--json", "--release", str(cluster.release))

        assert done.code == 0, done.err
        assert done.data["writes"] == 0

    def test_a_database_uri_of_a_reference_is_refused_without_being_shown(self, cluster, capsys, monkeypatch):
        monkeypatch.setenv("DB_URI", "postgres://scott:planted-tiger@db.example.com/mlflow")
        path = cluster.configure("server: {backend_store_uri: 'env:DB_URI'}\n")
        before = cluster.everything()

        refused = cluster.run(capsys, "install", "--config", str(path), "--release", str(cluster.release))

        assert_error(refused, 3, "database URI", "'postgresql'", "server.backend_store_uri (env:DB_URI)")
        assert "planted-tiger" not in refused.out + refused.err
        assert cluster.everything() == before

    def test_the_keys_of_real_stores_are_set_and_shown_nowhere(self, cluster, capsys, monkeypatch):
        """Not on the sandbox, which ignores such keys."""
        planted = {
            "DB_URI": "postgresql+psycopg://scott:planted-tiger@db.example.com/mlflow",
            "S3_KEY": "planted/key+with=odd&characters",
        }
        for name, value in planted.items():
            monkeypatch.setenv(name, value)
        server = "backend_store_uri: 'env:DB_URI', secrets: {AWS_SECRET_ACCESS_KEY: 'env:S3_KEY'}"
        server += ", variables: {MLFLOW_ENABLE_WORKSPACES: 'true'}"
        path = cluster.configure(f"server: {{{server}}}\n")

        done = cluster.run(capsys, "install", "--yes", "--config", str(path), "--release", str(cluster.release))
        again = cluster.run(capsys, "install", "--json", "--config", str(path), "--release", str(cluster.release))
        printed = cluster.run(capsys, "runbook", "--config", str(path))

        assert done.code == 0, done.err
        assert again.data["writes"] == 0
        mounted = cluster.folder / "state" / "sandbox" / "secrets" / ACCOUNT
        assert (mounted / "AWS_SECRET_ACCESS_KEY").read_text().strip() == planted["S3_KEY"]
        assert (mounted / "MLFLOW_BACKEND_STORE_URI").read_text().strip() == planted["DB_URI"]
        assert (mounted / "MLFLOW_ENABLE_WORKSPACES").read_text().strip() == "true"
        assert "secret add MLFLOW_ENABLE_WORKSPACES true" in printed.out
        kept = [file.read_bytes() for file in cluster.state_folder.rglob("*") if file.is_file()]
        for text in (done.out, done.err, again.out, again.err, printed.out, *map(repr, kept)):
            assert "planted" not in text


@through_ae5_tools
def test_the_sandbox_too_can_be_worked_on_through_ae5_tools(bench, capsys):
    first = bench.install(capsys, "--yes", "--session", "ae5-tools")
    bench.forget_calls()
    second = bench.install(capsys, "--yes", "--session", "ae5-tools")

    assert first.code == 0, first.err
    assert (second.code, second.data["outcome"], second.data["writes"]) == (0, "unchanged", 0), second.err
    assert len(bench.calls()) <= 19  # 3 for the lock
    assert bench.install(capsys, "--yes", "--session", "built-in").data["outcome"] == "unchanged"
