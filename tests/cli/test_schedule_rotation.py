"""schedule-rotation through `main(argv)`, with a `crontab` that keeps its table in a file."""

from __future__ import annotations

import json
import shlex
import subprocess

import pytest

from mlflow_ae5_deploy.cli.main import main
from tests.cli.rotating import rotation, running, stored

CRONTAB = """\
#!/bin/sh
table="{table}"
case "$1" in
  -l) if [ -e "$table.broken" ]; then echo "crontab: cannot open the spool" >&2; exit 1; fi
      if [ -e "$table" ]; then cat "$table"; else echo "no crontab for somebody" >&2; exit 1; fi ;;
  -) cat >"$table"; echo x >>"$table.writes" ;;
esac
"""
THEIRS = "MAILTO=ops@example.com\n0 3 * * * /usr/bin/backup\n"
PASSWORD = "a-password-in-the-environment"


@pytest.fixture
def table(tmp_path, monkeypatch):
    programs = tmp_path / "bin"
    programs.mkdir()
    file = tmp_path / "table"
    program = programs / "crontab"
    program.write_text(CRONTAB.format(table=file))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    return file


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


def writes(table) -> int:
    file = table.with_name("table.writes")
    return len(file.read_text().splitlines()) if file.exists() else 0


def words_of(line: str) -> list[str]:
    """As cron and the shell would take it: five fields of time, the command, and nothing of the mark."""
    return shlex.split(line.split(None, 5)[5].replace(r"\%", "%"), comments=True)


class TestTheLine:
    def test_is_printed_with_absolute_paths_and_no_secret(self, configured, table, capsys):
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
        assert not table.exists()
        assert not (configured / "state").exists()

    def test_carries_what_only_this_shell_knows_but_never_a_password(self, configured, table, capsys, monkeypatch):
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

    def test_a_question_that_nobody_would_answer_is_warned_of(self, configured, table, capsys):
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

    @pytest.mark.parametrize("argv", [("--cron", "*/7 * * * *"), ("--cron", "often"), ("--install", "--remove")])
    def test_nonsense_is_refused(self, configured, table, capsys, argv):
        assert run(capsys, *argv)[0] in (2, 3)
        assert not table.exists()

    def test_of_the_sandbox_warns_of_consumers_and_of_nothing_that_is_set_aside(self, bench, table, capsys):
        config = bench.configure(
            "platform: {hostname: ae5.example.com}\naccount: {username: svc, password: 'env:OWN'}\n"
            "consumers: [{username: ann, password: 'env:ANN'}]\n"
        )

        data = json.loads(run(capsys, "--sandbox", "--config", str(config), "--json")[1])

        assert [warning.split(",")[0] for warning in data["warnings"]] == ["the password of consumer ann is env:ANN"]


class TestTheCrontab:
    def test_gets_the_line_once_and_loses_nothing_else(self, configured, table, capsys):
        table.write_text(THEIRS)

        first = run(capsys, "--install")
        once = table.read_text()
        second = run(capsys, "--install")
        moved = run(capsys, "--install", "--cron", "0 * * * *")

        assert (first[0], second[0], moved[0]) == (0, 0, 0), first[2]
        assert once.startswith(THEIRS)
        assert once.count("rotate-token --if-needed") == 1
        assert "already" in second[1]
        assert writes(table) == 2
        assert table.read_text().startswith(f"{THEIRS}0 * * * * env ")
        assert PASSWORD not in table.read_text()

    def test_holds_a_line_for_each_installation(self, configured, table, capsys):
        run(capsys, "--install", "--profile", "dev")
        run(capsys, "--install", "--profile", "prod")

        assert table.read_text().count("rotate-token --if-needed") == 2

        run(capsys, "--remove", "--profile", "dev")
        assert "--profile prod" in table.read_text()
        assert "--profile dev" not in table.read_text()

    def test_is_as_before_when_the_line_is_taken_out_again(self, configured, table, capsys):
        table.write_text(THEIRS)
        run(capsys, "--install", "--cron", "7 * * * *")
        line = table.read_text().splitlines()[-1]

        removed = run(capsys, "--remove", "--json")
        again = run(capsys, "--remove")
        none = run(capsys, "--remove", "--json")

        assert json.loads(removed[1])["line"] == line  # the one that was there, not one made of today's options
        assert again[1] == "Your crontab has no line for this installation.\n"
        assert json.loads(none[1])["line"] is None
        assert (removed[0], again[0]) == (0, 0)
        assert table.read_text() == THEIRS
        assert writes(table) == 2
        (journal,) = (configured / "state").glob("*/journal.jsonl")
        assert [json.loads(line)["event"] for line in journal.read_text().splitlines()] == [
            *("begin", "intent", "effect", "end") * 2,
        ]

    def test_that_cannot_be_read_is_not_overwritten(self, configured, table, capsys):
        table.write_text(THEIRS)
        table.with_name("table.broken").touch()

        code, _, err = run(capsys, "--install")

        assert code == 16
        assert "cannot open the spool" in err
        assert table.read_text() == THEIRS

    def test_on_a_machine_without_cron_is_told_of(self, configured, table, capsys, monkeypatch):
        monkeypatch.setenv("PATH", str(configured))

        code, _, err = run(capsys, "--install")

        assert code == 3
        assert "no program `crontab`" in err
        assert run(capsys)[0] == 0  # printing needs none


def test_the_line_does_its_work_from_an_empty_environment(rotatable, table, capsys):
    assert rotatable.run(capsys, "schedule-rotation", "--sandbox", "--install").code == 0
    (line,) = table.read_text().splitlines()
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
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    assert stored(rotatable) != old
    assert rotation(rotatable, capsys, "--if-needed").data["outcome"] == "unchanged"
    assert running(rotatable)["state"] == "started"


def test_what_the_sandbox_sets_aside_is_not_mailed_at_every_run(rotatable, capsys):
    config = rotatable.configure(
        "platform: {hostname: ae5.example.com, lost_answer_deadline: 0.5}\nconsumers: [{username: dev-user}]\n"
    )

    by_cron = rotatable.run(capsys, "rotate-token", "--sandbox", "--if-needed", "--config", str(config))
    by_hand = rotatable.run(capsys, "share", "--sandbox", "--config", str(config))

    assert (by_cron.code, by_cron.err) == (0, "")
    assert "Not used on the sandbox" in by_hand.err
