"""rotate-token --restart: the same server with a new id and a new token; failed starts; interrupted restarts."""

from __future__ import annotations

import re

import pytest
from pydantic import PrivateAttr

from mlflow_ae5_deploy.cli.context import opened
from mlflow_ae5_deploy.cli.options import TargetOptions
from mlflow_ae5_deploy.engine.context import RunOptions
from mlflow_ae5_deploy.engine.journal import Journal
from mlflow_ae5_deploy.engine.state import SavedState
from mlflow_ae5_deploy.operations.downtime_probe import EVERY
from mlflow_ae5_deploy.operations.rotate_token import rotate
from mlflow_ae5_deploy.operations.rotate_token_plan import RotationOptions
from tests.cli.bench import ACCOUNT
from tests.cli.rotating import PLATFORM, PROBE, opens, outcomes, rotation, running, state_file, stored, volume
from tests.sandbox.support import endpoint_name

KEPT = ("name", "command", "resource_profile", "revision", "variables", "public", "project_name", "url")


@pytest.fixture
def special(rotatable):
    return make_special(rotatable, {"GREETING": "good day"})


def make_special(rotatable, variables):
    """A server that differs from the configuration: a profile, variables and sharing of its own."""
    owner, previous = rotatable.owner(), running(rotatable)
    project = next(p for p in owner.get("projects") if p["owner"] == ACCOUNT)
    owner.call("DELETE", f"deployments/{previous['id']}")
    changes = {"resource_profile": "large", "variables": variables}
    now = owner.deploy(project["id"], name=previous["name"], static_endpoint=endpoint_name(previous), **changes)
    people = [
        {"id": "everyone", "type": "group", "permission": "r"},
        {"id": "dev-user", "type": "user", "permission": "r"},
    ]
    assert owner.call("PUT", f"deployments/{now['id']}/collaborators", json=people).status_code == 200
    rotatable.forget_calls()
    return rotatable


def shape(bench):
    record = running(bench)
    people = bench.owner().get(f"deployments/{record['id']}/collaborators")
    return {key: record[key] for key in KEPT} | {
        "endpoint": endpoint_name(record),
        "shared": sorted((item["type"], item["id"]) for item in people),
    }


def fails_to_start(bench, times: int) -> None:
    (volume(bench) / "failures").write_text(str(times))


@pytest.fixture
def slow(rotatable):
    """Starts take longer than the time between two probes of the downtime."""
    rotatable.control("PATCH", "/settings", {"state_seconds": 2})
    yield rotatable
    rotatable.control("PATCH", "/settings", {"state_seconds": 0})


class TestRestart:
    def test_everything_is_kept_but_the_id_and_the_tokens(self, special, capsys):
        rotation(special, capsys)
        before, previous, old = shape(special), running(special), stored(special)

        done = rotation(special, capsys, "--restart")

        assert (done.code, done.data["outcome"]) == (0, "rotated"), done.err
        assert shape(special) == before
        assert before["variables"] == {"GREETING": "good day"}
        assert running(special)["id"] == done.data["deployment_id"] != previous["id"]
        assert outcomes(done) == {ACCOUNT: "stored", "dev-user": "stored"}
        assert done.data["token_downtime_seconds"] > 0
        assert opens(special, old) == 401
        assert opens(special, stored(special, "dev-user")) == 200
        assert done.data["gc"]["state"] == "passed"

    def test_the_downtime_that_users_saw_is_measured_from_outside(self, slow, capsys):
        """Each request is in the platform's log, with what it was answered."""
        slow.forget_calls()
        done = rotation(slow, capsys, "--restart")

        assert done.code == 0, done.err
        seen = done.data["observed_downtime_seconds"]
        calls = slow.calls()
        stores = [c for c in calls if c["method"] == "POST" and c["secret"] == "MLFLOW_TRACKING_TOKEN"]
        probes = [c for c in calls if c["surface"].startswith("endpoint") and c["path"] == PROBE]
        assert probes[0]["status"] == 200
        down = next(i for i, c in enumerate(probes) if c["status"] != 200)
        up = next(c for c in probes if c["status"] == 200 and c["number"] > stores[-1]["number"])
        # Times in the log are those of answers; the first rejected request was sent after the answer before it.
        shortest, longest = up["time"] - probes[down]["time"], up["time"] - probes[down - 1]["time"]
        assert shortest - 0.01 <= seen <= longest + EVERY, probes

    def test_it_is_printed(self, slow, capsys):
        done = slow.run(capsys, "rotate-token", "--sandbox", "--restart", "--yes")

        assert done.code == 0, done.err
        assert re.search(r"Downtime +[0-9.]+ s measured from outside, until the stored token was accepted", done.out)

    def test_of_a_server_that_was_down_before_no_number_is_given(self, rotatable, capsys):
        rotatable.control("POST", "/faults", {"method": "GET", "path": PROBE, "status": 500})  # the first request

        done = rotation(rotatable, capsys, "--restart")

        assert (done.code, done.data["observed_downtime_seconds"]) == (0, None), done.err
        assert rotation(rotatable, capsys).data["observed_downtime_seconds"] is None

    def test_what_cannot_start_is_found_out_before_the_stop(self, rotatable, capsys):
        previous = running(rotatable)
        rotatable.control("POST", "/faults", {"method": "GET", "path": "projects/actions", "status": 500})

        failed = rotation(rotatable, capsys, "--restart")

        assert failed.code != 0
        assert running(rotatable)["id"] == previous["id"]
        assert opens(rotatable, stored(rotatable)) == 200


class TestRollback:
    def test_a_server_that_does_not_come_up_is_rolled_back_and_its_log_shown(self, special, capsys):
        before, previous = shape(special), running(special)
        fails_to_start(special, 1)

        done = rotation(special, capsys, "--restart")

        assert (done.code, done.data["outcome"], done.data["rolled_back"]) == (20, "rotated", True)
        assert "rolled back" in done.data["error"]["what"]
        assert "the database refuses the connection" in done.data["error"]["detail"]
        assert "the database refuses the connection" in done.err
        assert shape(special) == before
        assert running(special)["id"] == done.data["deployment_id"] != previous["id"]
        assert opens(special, stored(special)) == 200
        assert rotation(special, capsys, "--if-needed").data["outcome"] == "unchanged"

    def test_the_log_is_shown_also_where_a_consumer_is_left(self, rotatable, capsys):
        config = ["--config", str(rotatable.configure(PLATFORM + "consumers:\n  - username: nobody-here\n"))]
        fails_to_start(rotatable, 1)

        done = rotation(rotatable, capsys, "--restart", *config)

        assert (done.code, done.data["outcome"], done.data["remaining"]) == (23, "incomplete", ["nobody-here"])
        assert "below" in done.data["error"]["detail"]
        assert "the database refuses the connection" in done.data["error"]["detail"]
        assert done.data["token_downtime_seconds"] is None  # it is not over
        assert done.data["observed_downtime_seconds"] is None

    def test_a_refused_start_is_rolled_back_too(self, rotatable, capsys):
        fault = {"method": "POST", "path": "/projects/[^/]+/deployments$", "status": 400, "reason": "No room"}
        rotatable.control("POST", "/faults", fault)

        done = rotation(rotatable, capsys, "--restart")

        assert (done.code, done.data["rolled_back"]) == (20, True), done.err
        assert "No room" in done.data["error"]["what"]
        assert done.data["outcome"] == "rotated"
        assert "below" not in done.data["error"]["remedy"]  # nothing was started, so there is no log
        assert rotation(rotatable, capsys, "--if-needed").data["outcome"] == "unchanged"
        assert opens(rotatable, stored(rotatable)) == 200

    def test_when_the_rollback_fails_the_next_run_starts_the_previous_definition(self, special, capsys):
        before = shape(special)
        fails_to_start(special, 2)

        failed = rotation(special, capsys, "--restart")

        assert failed.code == 20
        assert "The rollback failed, too" in failed.data["error"]["what"]
        assert failed.data["error"]["detail"].count("the database refuses the connection") == 2

        second = rotation(special, capsys, "--if-needed")

        assert (second.code, second.data["outcome"]) == (0, "rotated"), second.err
        assert shape(special) == before
        assert second.data["token_downtime_seconds"] > 0


class TestCredentialsInVariables:
    VARIABLES = {"GREETING": "good day", "DB_PASSWORD": "hunter2-variable"}  # noqa: RUF012

    def test_are_kept_but_not_on_disk(self, rotatable, capsys):
        bench = make_special(rotatable, self.VARIABLES)
        fails_to_start(bench, 2)
        failed = rotation(bench, capsys, "--restart")
        noted = state_file(bench).read_text()

        second = rotation(bench, capsys)

        assert (failed.code, second.code) == (20, 0), second.err
        assert running(bench)["variables"] == self.VARIABLES  # the failed deployment had them
        assert "hunter2-variable" not in noted + failed.out + failed.err + second.out + second.err

    def test_are_reported_as_lost_when_they_are(self, rotatable, capsys):
        bench = make_special(rotatable, self.VARIABLES)
        fails_to_start(bench, 2)
        rotation(bench, capsys, "--restart")
        owner = bench.owner()
        owner.call("DELETE", f"deployments/{running(bench)['id']}")

        refused = rotation(bench, capsys)
        installed = bench.install(capsys)

        assert refused.code == 14
        assert "DB_PASSWORD" in refused.data["error"]["what"]
        assert installed.code == 0
        assert rotation(bench, capsys).code == 0


class Killed(BaseException):
    """Ends a run like a kill: nothing of ours catches it."""


class Fuse:
    """Burns down with every step; at zero the run is killed."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def burn(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed


class DyingJournal(Journal):
    fuse: Fuse

    def write(self, event, **fields):
        if event == "effect":
            self.fuse.burn()
        super().write(event, **fields)


class DyingState(SavedState):
    _fuse: Fuse = PrivateAttr()

    def save(self):
        self._fuse.burn()
        super().save()


def killed_after(steps: int, config) -> bool:
    """Restart until the fuse has burnt down: before the journal has an effect, or the state. False
    when the run came to its end."""
    options = TargetOptions(sandbox=True, config=config, json=True)
    fuse = Fuse(steps)
    try:
        with opened(options, "rotate-token", RunOptions(consent=lambda _: True)) as context:
            context.journal = DyingJournal(context.folders.state, context.clock, verb="rotate-token")
            context.state = DyingState.load(context.folders.state)
            context.journal.fuse = context.state._fuse = fuse
            rotate(context, RotationOptions(restart=True))
    except Killed:
        return True
    return False


def test_killed_between_an_effect_and_its_record_the_next_run_makes_it_good(special, capsys):
    """Every such point, for one account and without the gc job; what these leave unfinished has tests of its own."""
    config = special.configure(PLATFORM + "gc: {command: Nothing}\n")
    before, points = shape(special), 0
    while killed_after(points + 1, config):
        points += 1
        again = rotation(special, capsys, "--config", str(config))
        assert again.code == 0, f"point {points}: {again.err}"
        assert opens(special, stored(special)) == 200, f"point {points}"
        assert shape(special) == before, f"point {points}"
        assert '"restart": null' in state_file(special).read_text()
    assert points >= 9
    assert rotation(special, capsys, "--config", str(config), "--if-needed").data["outcome"] == "unchanged"
