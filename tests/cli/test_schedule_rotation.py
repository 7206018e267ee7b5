"""schedule-rotation through `main(argv)`."""

from __future__ import annotations

import json
import shlex
import subprocess

import pytest

from mlflow_ae5_deploy.cli.main import main
from tests.cli.rotating import rotation, running, stored

PASSWORD = "a-password-in-the-environment"


@pytest.fixture
def configured(tmp_path, monkeypatch):
    """A cluster that nobody is connected to: the verb needs no connection."""
    for name in ("AE5_HOSTNAME", "AE5_USERNAME", "AE5_PASSWORD", "AE5_ADMIN_USERNAME", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_AE5_DEPLOY_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "password").write_text(PASSWORD)
    (tmp_path / "password").chmod(0o600)
    (tmp_path / "mlflow-ae5-deploy.yaml").write_text(
        "platform: {hostname: ae5.example.com}\naccount: {username: svc, password: 'file:password'}\n"
        "profiles: {dev: {}, prod: {project: {name: other}}}\n"
    )
    return tmp_path


def run(capsys, *argv):
    capsys.readouterr()
    code = main(["schedule-rotation", *argv])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def words_of(line: str) -> list[str]:
    """As cron and the shell would take it: five fields of time, the then the command."""
    return shlex.split(line.split(None, 5)[5].replace(r"\%", "%"), comments=True)


class TestTheLine:
    def test_is_printed_with_absolute_paths_and_no_secret(self, configured, capsys):
        code, out, err = run(capsys, "--profile", "dev", "--cron", "*/5 * * * *")

        assert (code, err) == (0, "")
        words = words_of(out.strip())
        assert out.startswith("*/5 * * * * ")
        assert words[words.index("-m") - 1].startswith("/")
        assert words[words.index("rotate-token") :][:2] == ["rotate-token", "--if-needed"]
        assert words[words.index("--config") + 1] == str(configured / "mlflow-ae5-deploy.yaml")
        assert words[words.index("--profile") + 1] == "dev"
        assert f"MLFLOW_AE5_DEPLOY_STATE={configured / 'state'}" in words
        assert "--hostname" not in words  # the configuration says it
        assert PASSWORD not in out
        assert not (configured / "state").exists()

    def test_carries_what_only_this_shell_knows_but_never_a_password(self, configured, capsys, monkeypatch):
        monkeypatch.setenv("AE5_HOSTNAME", "other.example.com")
        monkeypatch.setenv("AE5_PASSWORD", PASSWORD)
        (configured / "ca.pem").write_text("")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "ca.pem")
        monkeypatch.setenv("AE5_TLS_VERIFY", "true")

        code, out, err = run(capsys)

        words = words_of(out.strip())
        assert code == 0
        assert words[words.index("--hostname") + 1] == "other.example.com"
        assert f"REQUESTS_CA_BUNDLE={configured / 'ca.pem'}" in words
        assert "AE5_TLS_VERIFY=true" in words
        assert PASSWORD not in out + err
        assert "account.password is env:AE5_PASSWORD" in err
        assert "file:PATH" in err

    def test_a_question_that_nobody_would_answer_is_warned_of(self, configured, capsys):
        config = configured / "asks.yaml"
        config.write_text(
            "platform: {hostname: ae5.example.com}\naccount: {username: svc}\n"
            "admin: {username: boss, password: prompt}\nconsumers: [{username: ann, password: 'env:ANN'}]\n"
        )

        data = json.loads(run(capsys, "--config", str(config), "--json")[1])

        assert [warning.split(",")[0] for warning in data["warnings"]] == [
            "admin.password is prompt",
            "the password of consumer ann is env:ANN",
        ]

    @pytest.mark.parametrize("argv", [("--cron", "*/7 * * * *"), ("--cron", "often")])
    def test_nonsense_is_refused(self, configured, capsys, argv):
        assert run(capsys, *argv)[0] in (2, 3)

    def test_of_the_sandbox_warns_of_consumers_only(self, bench, capsys):
        config = bench.configure(
            "platform: {hostname: ae5.example.com}\naccount: {username: svc, password: 'env:OWN'}\n"
            "consumers: [{username: ann, password: 'env:ANN'}]\n"
        )

        data = json.loads(run(capsys, "--sandbox", "--config", str(config), "--json")[1])

        assert [warning.split(",")[0] for warning in data["warnings"]] == ["the password of consumer ann is env:ANN"]


def test_the_line_does_its_work_from_an_empty_environment(rotatable, capsys):
    line = rotatable.run(capsys, "schedule-rotation", "--sandbox").out.strip()
    command = line.split(None, 5)[5].replace(r"\%", "%")
    old = stored(rotatable)
    rotatable.owner().call("DELETE", "credentials/user/MLFLOW_TRACKING_TOKEN")

    for _ in range(2):  # the second finds nothing to do
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd="/",
            env={"HOME": str(rotatable.folder), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    assert stored(rotatable) != old
    assert rotation(rotatable, capsys, "--if-needed").data["outcome"] == "unchanged"
    assert running(rotatable)["state"] == "started"


def test_settings_ignored_on_the_sandbox_are_not_mailed_at_every_run(rotatable, capsys):
    config = rotatable.configure(
        "platform: {hostname: ae5.example.com, lost_answer_deadline: 0.5}\nconsumers: [{username: dev-user}]\n"
    )

    by_cron = rotatable.run(capsys, "rotate-token", "--sandbox", "--if-needed", "--config", str(config))
    by_hand = rotatable.run(capsys, "share", "--sandbox", "--config", str(config))

    assert (by_cron.code, by_cron.err) == (0, "")
    assert "Ignored on the sandbox" in by_hand.err


def test_what_a_shell_or_cron_would_take_apart_is_quoted(configured, capsys):
    folder = configured / "my 100%; folder"
    folder.mkdir()
    (configured / "mlflow-ae5-deploy.yaml").rename(folder / "x.yaml")
    (configured / "password").rename(folder / "password")

    code, out, _ = run(capsys, "--config", str(folder / "x.yaml"))

    assert code == 0
    assert r"100\%" in out
    words = words_of(out.strip())
    assert words[words.index("--config") + 1] == str(folder / "x.yaml")


def test_a_line_break_cannot_be_smuggled_in(configured, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_AE5_DEPLOY_STATE", f"{configured}/a\n* * * * * rm")

    assert run(capsys)[0] == 3
