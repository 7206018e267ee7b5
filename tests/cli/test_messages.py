"""What messages say of options, settings and next steps."""

from __future__ import annotations

import shlex
import signal

import pytest

from mlflow_ae5_deploy.cli import verbs
from mlflow_ae5_deploy.cli.main import main
from mlflow_ae5_deploy.common.text import VERBS, addressed, counted, deleted
from tests.cli.answers import assert_error, assert_no_accident
from tests.cli.collecting import make_collecting_release
from tests.sandbox.support import wait_for


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--cron", "*/8 * * * *"], "does not divide 60"), (["--ttl", "30 days"], "is not a duration")],
)
def test_a_wrong_option_is_not_taken_for_a_setting(bench, capsys, options, message):
    refused = bench.run(capsys, "schedule-gc", "--sandbox", *options)

    assert_error(refused, 3, message, f"where    {options[0]}\n")
    assert "init" not in refused.err
    assert "gc.schedule" not in refused.err


def test_a_run_is_announced_only_where_there_is_a_job(bench, capsys):
    assert bench.install(capsys).code == 0
    assert bench.run(capsys, "schedule-gc", "--sandbox", "--remove").code == 0

    refused = bench.run(capsys, "schedule-gc", "--sandbox", "--run-now")

    assert_error(refused, 15, "There is no garbage collection job")
    assert refused.out == ""
    assert bench.run(capsys, "schedule-gc", "--sandbox").code == 0


def test_a_timeout_names_its_setting(bench, capsys):
    assert bench.install(capsys).code == 0
    config = bench.configure("platform: {read_timeout: 0.5, lost_answer_deadline: 0.5}\n")
    with bench.fault("GET", "/api/v2/projects$", delay=2, times=None):
        late = bench.run(capsys, "status", "--sandbox", "--config", str(config))

    assert_error(late, 13, "platform.read_timeout")


def test_a_verification_that_created_nothing_does_not_claim_to_have_deleted_it(bench, capsys):
    assert bench.install(capsys).code == 0
    with bench.fault("GET", "experiments/search", status=503, times=None):
        failed = bench.run(capsys, "verify", "--sandbox", "--json")

    assert failed.code == 21
    names = [check["name"] for check in failed.data["checks"]]
    assert names[0] == "MLflow API healthy"
    assert [name for name in names if "rejected" not in name] == names[:1]


def test_the_way_back_after_an_uninstall_is_a_whole_command(bench, capsys):
    options = ("--sandbox", "--config", str(bench.another()))
    assert bench.run(capsys, "install", *options, "--release", str(bench.release)).code == 0

    done = bench.run(capsys, "uninstall", *options, "--yes")

    words = shlex.split(done.out.partition("To install it again\n")[2])
    assert bench.run(capsys, *words[words.index("install") :]).code == 0
    again = bench.run(capsys, "uninstall", *options, "--yes")
    assert again.code == 0, again.err


def test_ctrl_c_on_a_run_does_not_promise_that_it_is_taken_up_again(bench, capsys):
    bench.release = make_collecting_release(bench.folder / "collecting.tar.gz")
    assert bench.install(capsys, "--replace").code == 0
    gate = bench.folder / "never"
    options = ("schedule-gc", "--sandbox")
    assert bench.run(capsys, *options, "--variable", f"GATE={gate}").code == 0

    with bench.spawn(*options, "--run-now") as process:
        wait_for(lambda: bench.owner().get("runs"), "the run to begin")
        wait_for(lambda: [c for c in bench.calls() if c["path"].endswith("/logs")], "its log to be followed")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=200)
    gate.touch()

    assert process.returncode == 130
    assert "Running this again starts another." in err
    assert "do this" not in err
    assert "Traceback" not in err


def test_a_release_is_named_once(bench, capsys):
    assert bench.install(capsys, "--replace").code == 0
    shown = bench.run(capsys, "status", "--sandbox").out
    assert "release release" not in shown.lower()
    assert_no_accident(bench.run(capsys, "doctor", "--sandbox"))


def test_before_an_installation_the_next_step_is_one_for_the_sandbox(bench, capsys):
    refused = bench.run(capsys, "backup", "--sandbox", "--username", "nobody-yet")

    assert_error(refused, 11, "`mlflow-ae5-deploy install --sandbox --username nobody-yet` creates it")


@pytest.mark.parametrize(
    ("remedy", "shown"),
    [
        ("`install` or `upgrade --release <a>`.", "`install --sandbox` or `upgrade --release <a> --sandbox`."),
        ("See `mlflow-ae5-deploy plan`.", "See `mlflow-ae5-deploy plan --sandbox`."),
        ("`status --sandbox`", "`status --sandbox`"),
        ("`--replace` of `sandbox reset` for `installer`", "`--replace` of `sandbox reset` for `installer`"),
    ],
)
def test_a_remedy_for_the_sandbox(remedy, shown):
    assert addressed(remedy, (("--sandbox",),)) == shown


OPTIONS = (
    ("--config", "a b.yaml"),
    ("--profile", "prod"),
    ("--hostname", "ae5.example.com"),
    ("--username", "svc"),
    ("--session", "auto"),
    ("--release", "1.2.0"),
)
WHOLE = "--config 'a b.yaml' --profile prod --hostname ae5.example.com --username svc --session auto"


@pytest.mark.parametrize(
    ("remedy", "shown"),
    [
        ("Run `install`.", f"Run `install {WHOLE} --release 1.2.0`."),
        (
            "`logs --run latest` or `upgrade --roll-back`",
            f"`logs --run latest {WHOLE}` or `upgrade --roll-back {WHOLE}`",
        ),
        ("`upgrade --release bundled`", f"`upgrade --release bundled {WHOLE}`"),
        ("`restore --list-saved`", f"`restore --list-saved {WHOLE}`"),
        ("`history`", f"`history {WHOLE}`"),
        ("`plan --config x`", f"`plan --config x {WHOLE.partition('yaml' + chr(39) + ' ')[2]} --release 1.2.0`"),
        ("`mlflow-ae5-deploy init` and `crontab -e`", "`mlflow-ae5-deploy init` and `crontab -e`"),
    ],
)
def test_a_remedy_keeps_the_target(remedy, shown):
    assert addressed(remedy, OPTIONS) == shown


@pytest.mark.parametrize("verb", VERBS)
def test_a_command_for_the_same_target_is_one_that_its_verb_takes(verb, capsys):
    """`--help` behind it: the options before are read, and refused where the verb has no such."""
    command = addressed(f"`{verb}`", (("--sandbox",), *OPTIONS)).strip("`")
    assert main([*shlex.split(command), "--help"]) == 0, capsys.readouterr().err


def test_what_is_printed_keeps_the_target(bench, capsys):
    config = bench.another()
    options = ("--sandbox", "--config", str(config), "--username", "mlflow-service")
    target = f"--sandbox --config {config} --username mlflow-service"
    release = str(bench.release)

    assert bench.install(capsys, "--yes", "--replace").code == 0
    refused = bench.run(capsys, "logs", *options)
    document = bench.run(capsys, "logs", *options, "--json").data
    planned = bench.run(capsys, "plan", *options, "--release", release)

    assert_error(refused, 15, f"`mlflow-ae5-deploy install {target}`")
    assert f"`mlflow-ae5-deploy install {target}`" in document["error"]["remedy"]
    assert f"mlflow_ae5_deploy install {target} --release {release}\n" in planned.out.replace(
        "mlflow-ae5-deploy", "mlflow_ae5_deploy"
    )


def test_every_verb_with_target_options_is_listed():
    assert set(VERBS) == set(verbs.VERBS) - {"init", "release", "sandbox"}


@pytest.mark.parametrize(("number", "message"), [(0, "0 run records"), (1, "1 run record"), (2, "2 run records")])
def test_one_is_no_plural(number, message):
    assert counted(number, "run records") == message


@pytest.mark.parametrize(
    ("jobs", "records", "message"),
    [
        (1, 0, "deleted 1 job"),
        (0, 1, "deleted 1 run record"),
        (1, 1, "deleted 1 job and 1 run record"),
        (2, 0, "deleted 2 jobs"),
    ],
)
def test_removed_jobs_and_records_are_counted(jobs, records, message):
    assert deleted(jobs, records) == message
