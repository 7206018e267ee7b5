"""The requests of a lease: when they are sent, how many, and by whose clock they go."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from mlflow_ae5_deploy.ae5.transport import DatedAnswer
from mlflow_ae5_deploy.common.errors import DeadlineExceeded, DeployError, Locked, UnexpectedAnswer, Unreachable
from mlflow_ae5_deploy.engine.lease import Lease, interrupted_remedy, made_by_hand, parse, scope_of
from mlflow_ae5_deploy.engine.lease_claim import TERM, Claim, Claimant, Delete, List, Listed, Make, Pause
from mlflow_ae5_deploy.engine.lease_keeper import leased
from mlflow_ae5_deploy.engine.lock import InstallationLock
from mlflow_ae5_deploy.engine.records import RestoreRecord, UpgradeRecord
from tests.manual_clock import ManualClock
from tests.runbook.runbook_support import Doors, context

LONGEST = 160  # characters of a secret's name that AE5 is assumed to allow
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
OTHER = Lease(scope_of("mlflow.tracking.server"), NOW, NOW + TERM, "0" * 8, False, "upgrade", "root@other-1.example")


class Clock(ManualClock):
    """Of a machine: wrong by an hour, and may sleep, of which its monotonic clock knows nothing."""

    wrong = timedelta()
    asleep = timedelta()

    def now(self) -> datetime:
        return super().now() + self.wrong + self.asleep


@dataclass
class Platform:
    """Secrets, and the time in each answer. down: no request succeeds. limits: of each request."""

    clock: Clock
    names: dict[str, None] = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)
    limits: list[dict[str, float]] = field(default_factory=list)
    down: bool = False
    hides: bool = False
    session: Any = None

    def __post_init__(self) -> None:
        self.session = SimpleNamespace(writes_made=0, dated=None)
        self.answered()

    def answered(self) -> None:
        self.session.dated = DatedAnswer(self.time.replace(microsecond=0), self.clock.now(), self.clock.monotonic())

    @property
    def time(self) -> datetime:
        return NOW + timedelta(seconds=self.clock.elapsed) + self.clock.asleep

    def _send(self, kind: str, name: str = "") -> None:
        lease = parse(name)
        self.sent.append(kind if lease is None else f"{kind} {'unfinished' if lease.unfinished else 'held'}")
        self.session.writes_made += kind != "list"
        if self.down:
            raise Unreachable("down")
        self.answered()

    def send_secret(self, name: str, _value: object, **limits: float) -> None:
        self.limits.append(limits)
        self._send("make", name)
        self.names[name] = None

    def delete_secret(self, name: str, **limits: float) -> None:
        self.limits.append(limits)
        self._send("delete", name)
        self.names.pop(name, None)

    def secret_names(self, **limits: float) -> set[str]:
        self.limits.append(limits)
        self._send("list")
        return set() if self.hides else set(self.names)


class Undated:
    """A session whose answers have no `Date`."""

    writes_made = 0

    @property
    def dated(self) -> DatedAnswer:
        raise UnexpectedAnswer("no date")


class Bench:
    def __init__(self, folder, names=()) -> None:
        self.clock = Clock()
        self.platform = Platform(self.clock, names=dict.fromkeys(names))
        doors = Doors(platform_=self.platform)
        doors.before_call, doors.lock_writes = None, 0  # type: ignore[attr-defined]
        self.context = replace(context(folder, doors=doors), clock=self.clock)
        self.context.cached.listed_secrets = lambda names: self.listed.append(names)  # type: ignore[method-assign]
        self.listed: list[Any] = []
        self.stack = ExitStack()

    def start(self, verb="install", wait=0.0, break_lock=False) -> None:
        folder = self.context.folders.state
        lock = self.stack.enter_context(InstallationLock(folder, self.clock, verb=verb).held())
        self.stack.enter_context(leased(self.context, lock, verb, wait_seconds=wait, break_lock=break_lock))

    def call(self, *, write=True) -> None:
        """What a session does before each call."""
        self.context.access.before_call(write)

    def end(self) -> list[str]:
        self.stack.close()
        sent, self.platform.sent = self.platform.sent, []
        return sent


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


# names and the decision ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "who",
    ["root@vm", "jürgen@my-host.example.org", "a_b@c__d", "", "x" * 200, "ü" * 99, "😀" * 60, "_", "a\x1b[31m@b"],
)
@pytest.mark.parametrize(
    "verb", ["install", "backup prune", "restore --undo", "rotate-token", "restore --undo --dry-run"]
)
def test_a_name_is_letters_digits_and_underscores_and_can_be_read(who, verb):
    lease = replace(OTHER, who=who, verb=verb, unfinished=True)

    assert lease.name.replace("_", "").isalnum()
    assert lease.name.isascii()
    found = parse(lease.name)
    assert found is not None
    assert (found.verb, found.name) == (verb, lease.name)
    assert who.startswith(found.who)
    assert found.who == who or len(lease.name) > LONGEST - len("_f0_9f_98_80")
    assert len(lease.name) <= LONGEST
    assert found.text.isprintable()


UNREADABLE = [
    "MLFLOW_AE5_LEASE",
    "MLFLOW_AE5_LEASE_mine",
    OTHER.name.replace("20260301", "20261399"),
    OTHER.name.replace("held", "free"),
    OTHER.name[:60],
    OTHER.name + "-",
    OTHER.name + "\n",
    OTHER.name.replace("root", "_72oot"),
    OTHER.name + "_ff",
]


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_name_made_by_hand_is_no_lease(bench, name):
    bench.platform.names[name] = None

    bench.start()
    bench.call()

    assert made_by_hand([name, OTHER.name, "MLFLOW_TRACKING_TOKEN"]) == [name]
    assert [name in text for text in bench.context.outputs.warnings] == [True]
    assert bench.end() == ["make held", "list", "delete held"]


EARLIER, LATER = replace(OTHER, since=NOW - TERM), replace(OTHER, since=NOW + TERM, expires=NOW + 2 * TERM)
OWN = replace(OTHER, nonce="1" * 8)
DECISIONS = [
    ("not listed yet", [], [], "unseen"),
    ("not listed yet, another is", [], [OTHER], "unseen"),
    ("alone", [OWN], [], "held"),
    ("another came earlier", [OWN], [EARLIER], "lost"),
    ("another came later", [OWN], [LATER], "yields"),
    ("at the same time, the nonce decides", [OWN], [OTHER], "lost"),
    ("another has expired", [OWN], [replace(OTHER, expires=NOW)], "held"),
    ("another expires in a second", [OWN], [replace(EARLIER, expires=NOW + timedelta(seconds=1))], "lost"),
    ("the earliest of three decides", [OWN], [LATER, EARLIER], "lost"),
]


@pytest.mark.parametrize(("case", "own", "others", "decision"), DECISIONS, ids=[row[0] for row in DECISIONS])
def test_who_holds(case, own, others, decision):
    now = NOW
    claim = Claim(Claimant(OWN.scope, OWN.verb, OWN.who, OWN.nonce), lambda: now)
    steps = claim.take()
    listed = Listed({lease.name for lease in [*own, *others]}, NOW)
    assert [next(steps), steps.send(None)] == [Make(OWN.name), List()]

    try:
        step = steps.send(listed)
        while step in [Delete(lease.name) for lease in others]:  # that has expired
            step = steps.send(None)
    except StopIteration:
        step = None

    found = {Pause(0.5, "the lock to be listed"): "unseen", Pause(0.5, "another run to give way"): "yields"}
    found |= {Delete(OWN.name): "lost", None: "held"}
    assert (found[step], claim.held) == (decision, decision == "held")
    if decision == "yields":
        now += timedelta(seconds=15)
        assert steps.send(None) == List()
        step = steps.send(listed)
    if decision in ("lost", "yields"):
        assert step == Delete(OWN.name)
        with pytest.raises(Locked) as caught:
            steps.send(None)
        assert caught.value.where == f"secret {min(others, key=lambda lease: lease.order).name}"


# requests -----------------------------------------------------------------------------------------------------------


def test_three_requests_and_none_before_the_first_call(bench):
    bench.start()
    assert bench.platform.sent == []
    for _ in range(20):
        bench.call()
        bench.clock.sleep(10)

    assert bench.end() == ["make held", "list", "delete held"]
    assert bench.platform.names == {}
    assert bench.context.access.lock_writes == 2
    assert len(bench.listed) == 1, "the list spares the run one of its own"


def test_no_request_where_the_run_sends_none(bench):
    bench.start()

    assert bench.end() == []


def test_a_loser_leaves_nothing_and_learns_who_won_and_until_when(bench):
    bench.platform.names[OTHER.name] = None
    bench.start()

    with pytest.raises(Locked) as caught:
        bench.call(write=False)
    with pytest.raises(Locked):
        bench.call()  # no write follows, whatever the run makes of the error
    bench.call(write=False)

    assert caught.value.what == "Locked by another run: upgrade, root@other-1.example, since 2026-03-01 12:00 UTC."
    assert "2026-03-01 12:15 UTC" in caught.value.remedy
    assert bench.end() == ["make held", "list", "delete held"]
    assert list(bench.platform.names) == [OTHER.name]


def test_an_expired_lease_is_deleted_before_the_first_call(bench):
    bench.platform.names[OTHER.name] = None
    bench.clock.sleep(TERM.seconds)

    bench.start()
    bench.call()

    assert bench.platform.sent == ["make held", "list", "delete held"]
    assert OTHER.name not in bench.platform.names


def test_a_killed_run_of_this_machine_leaves_nothing_in_the_way(bench, tmp_path):
    bench.start()
    bench.call()
    text, names = (tmp_path / "lock").read_bytes(), dict(bench.platform.names)
    bench.end()
    (tmp_path / "lock").write_bytes(text)  # as if it had been killed: both stay

    again = Bench(tmp_path, names)
    again.start()
    again.call()

    assert again.platform.sent == ["make held", "list", "delete held"]
    assert len(again.platform.names) == 1


def test_a_long_run_renews_and_asks_nothing_in_between(bench):
    bench.start()
    for _ in range(120):
        bench.call(write=False)
        bench.clock.sleep(10)

    renewals = bench.platform.sent[2:]
    assert renewals == ["make held", "list", "delete held"] * (len(renewals) // 3)
    assert 3 <= len(renewals) // 3 <= 4, "each 5 minutes"
    assert len(bench.platform.names) == 1


def test_an_unreachable_platform_does_not_end_a_run_that_still_holds_its_lease(bench):
    bench.start()
    bench.call()
    bench.clock.sleep(6 * 60)
    bench.platform.down = True

    bench.call()
    bench.platform.down = False
    bench.clock.sleep(60)
    bench.call()

    assert bench.platform.sent[2:] == ["make held", "make held", "list", "delete held"]


def test_a_platform_that_refuses_the_lock_is_asked_for_it_once(bench):
    bench.platform.down = True
    bench.start()
    with pytest.raises(Unreachable) as first:
        bench.call(write=False)

    for _ in range(3):
        bench.call(write=False)
    with pytest.raises(Unreachable) as again:
        bench.call()

    assert again.value is first.value
    assert bench.platform.sent == ["make held"]
    assert bench.end() == ["make held", "delete held"]


def test_a_platform_that_does_not_list_the_lock(bench):
    bench.platform.hides = True
    bench.start()

    with pytest.raises(DeadlineExceeded) as caught:
        bench.call()

    assert caught.value.what == "Timed out after 60 s waiting for the lock to be listed."
    assert caught.value.remedy == (
        "Run the same command again. If it persists, the platform does not list a new secret."
    )
    assert bench.end()[-1] == "delete held"
    assert bench.platform.names == {}


def test_a_platform_that_does_not_tell_its_time_ends_the_run_with_one_error(bench):
    bench.platform.session = Undated()
    bench.start()

    with pytest.raises(UnexpectedAnswer):
        bench.call()

    assert bench.end() == []


def test_only_the_last_requests_of_a_run_have_a_short_time_limit(bench):
    bench.start()
    bench.call()
    bench.clock.sleep(6 * 60)
    bench.call()
    assert {limits["timeout"] for limits in bench.platform.limits} == {None}
    assert bench.platform.sent == ["make held", "list"] * 2 + ["delete held"]

    bench.end()

    assert bench.platform.limits[5:] == [{"attempts": 3, "timeout": 10.0}]


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_wrong_by_an_hour_changes_nothing(bench, hours):
    bench.clock.wrong = timedelta(hours=hours)
    bench.platform.answered()
    bench.start()
    bench.call()

    (lease,) = map(parse, bench.platform.names)
    assert lease is not None
    assert timedelta() <= lease.expires - NOW - TERM <= timedelta(seconds=2)
    for _ in range(20):
        bench.clock.sleep(10)
        bench.call()
    assert bench.end() == ["make held", "list", "delete held"]


@pytest.mark.parametrize("minutes", [-60, 6, 60])
def test_a_clock_that_is_set_right_during_the_run_costs_a_look_at_most(bench, minutes):
    bench.start()
    bench.call()
    bench.clock.wrong = timedelta(minutes=minutes)

    bench.call()
    bench.call()

    assert bench.platform.sent[2:] == (["list"] if minutes > 0 else [])
    (lease,) = map(parse, bench.platform.names)
    assert lease is not None
    assert timedelta() <= lease.expires - NOW - TERM <= timedelta(seconds=2)


def test_a_machine_that_slept_goes_on_if_nobody_took_its_lease(bench):
    sleeps(bench)

    bench.call()

    assert bench.platform.sent[2:] == ["list", "make held", "list", "delete held"]


def test_a_machine_that_slept_stops_if_another_has_taken_its_lease(bench):
    sleeps(bench)
    bench.platform.names = {replace(OTHER, expires=bench.platform.time + TERM).name: None}

    for _ in range(2):
        with pytest.raises(Locked, match="lost its lock"):
            bench.call()


def test_a_machine_that_slept_stops_if_another_had_its_lease_meanwhile(bench):
    sleeps(bench)
    bench.platform.names.clear()

    with pytest.raises(Locked, match="lost its lock"):
        bench.call()


def test_an_interrupted_restore_stays_named_until_it_ends(bench, tmp_path):
    bench.start("restore")
    bench.call()
    bench.context.state.restore = RestoreRecord("latest", "a0-1", NOW)
    bench.call(write=False)
    assert bench.platform.sent == ["make held", "list"]
    bench.call()
    bench.call()

    assert bench.end() == [
        *["make held", "list", "make unfinished", "list", "delete held"],
        *["make unfinished", "list", "delete unfinished"],  # it ends now
    ]
    (left,) = map(parse, bench.platform.names)
    assert left is not None
    assert (left.verb, left.is_interrupted(NOW + timedelta(seconds=5))) == ("restore", True)

    bench.clock.sleep(60)
    bench.start("share")
    bench.call()
    assert bench.end() == ["make held", "list", "delete held"], "it is named already"

    bench.start("restore")
    bench.call()
    bench.context.state.restore = None
    assert bench.end() == ["make held", "list", "delete unfinished", "delete held"]
    assert bench.platform.names == {}


def test_a_restore_that_ctrl_c_ends_is_marked_as_ended_at_once(bench):
    bench.start("restore")
    bench.call()
    bench.context.state.restore = RestoreRecord("latest", "a0-1", NOW)
    bench.call()
    del bench.platform.sent[:], bench.platform.limits[:]

    with pytest.raises(KeyboardInterrupt), bench.stack:
        raise KeyboardInterrupt

    assert bench.platform.sent == ["make unfinished", "list", "delete unfinished"]
    assert bench.platform.limits == LAST_REQUESTS
    (left,) = map(parse, bench.platform.names)
    assert left is not None
    assert (left.verb, left.is_interrupted(NOW + timedelta(seconds=5))) == ("restore", True)


def test_ctrl_c_in_a_restore_waits_for_one_answer_of_a_silent_platform(bench):
    bench.start("restore")
    bench.call()
    bench.context.state.restore = RestoreRecord("latest", "a0-1", NOW)
    bench.call()
    del bench.platform.sent[:], bench.platform.limits[:]
    bench.platform.down = True

    with pytest.raises(KeyboardInterrupt), bench.stack:
        raise KeyboardInterrupt

    assert bench.platform.sent == ["make unfinished"], "its lease expires by itself"
    assert bench.platform.limits == LAST_REQUESTS[:1]


def test_after_an_error_the_lock_is_given_back_by_one_request(bench):
    bench.start()
    bench.call()
    bench.platform.down = True

    with pytest.raises(KeyboardInterrupt), bench.stack:
        raise KeyboardInterrupt

    assert bench.platform.sent == ["make held", "list", "delete held"]
    assert bench.platform.limits[-1] == {"attempts": 1, "timeout": 10.0}


REFUSED = ["install", "uninstall", "restore", "restore --undo", "upgrade", "rotate-token", "backup", "backup prune"]
ALLOWED = ["backup list", "backup show", "backup verify", "doctor", "drill", "restore --list-saved"]


@pytest.mark.parametrize("verb", [*REFUSED, *ALLOWED])
def test_an_interrupted_upgrade_of_another_machine(tmp_path, verb):
    interrupted = replace(OTHER, expires=NOW, unfinished=True)
    bench = Bench(tmp_path, [interrupted.name])
    bench.start(verb)
    failure: DeployError | None = None
    try:
        bench.call()
    except Locked as error:
        failure = error
    bench.end()

    assert (failure is not None) == (verb in REFUSED)
    if failure is not None:
        words = "Another machine's upgrade was interrupted: root@other-1.example, since 2026-03-01 12:00 UTC."
        assert (failure.what, failure.exit_code) == (words, 22)
    assert list(bench.platform.names) == [interrupted.name]

    given_up = Bench(tmp_path, [interrupted.name])
    given_up.start(verb, break_lock=True)
    given_up.call()
    given_up.end()
    assert given_up.platform.names == {}
    assert '"of the interrupted upgrade of root@other-1.example"' in given_up.context.journal.path.read_text()


OWN_UNFINISHED = [
    (
        "",
        "Run the same command again there to resume it, or `upgrade --roll-back`. If that machine is lost, run ",
    ),
    ("restore", "goes on. If this one, run `restore --break-lock --replace --snapshot S`, which gives up the other's "),
    ("upgrade", "The upgrade of this machine was interrupted, too, and each machine refuses the other's. Agree on "),
    ("upgrade", "If this one, run `upgrade --break-lock --roll-back`, which gives up the other's upgrade."),
]


@pytest.mark.parametrize(
    ("verb", "ways_out", "unfit"),
    [
        ("upgrade", ["`upgrade --roll-back`", "`install --break-lock`"], ["--undo", "restore --break-lock"]),
        (
            "restore",
            ["`restore --undo --stop-server`", "`restore --break-lock --replace --stop-server`"],
            ["upgrade", "install"],
        ),
    ],
)
def test_the_ways_out_fit_the_interrupted_operation(verb, ways_out, unfit):
    remedy = interrupted_remedy(replace(OTHER, verb=verb, unfinished=True), None)
    assert [words for words in ways_out if words not in remedy] == []
    assert [words for words in unfit if words in remedy] == []


@pytest.mark.parametrize(("own", "words"), OWN_UNFINISHED)
def test_what_to_run_while_the_other_machine_has_an_interrupted_upgrade(tmp_path, own, words):
    """Two operations may be interrupted where a platform lists names late."""
    bench = Bench(tmp_path, [replace(OTHER, expires=NOW, unfinished=True).name])
    if own == "restore":
        bench.context.state.restore = RestoreRecord("S", "a0-1", NOW, options="--replace --snapshot S")
    elif own == "upgrade":
        bench.context.state.upgrade = UpgradeRecord("d", "9.9.9", "1.0.0", "a0-1", "/kept", "saving", NOW)
    bench.start("install")

    with pytest.raises(Locked, match=r"^Another machine's upgrade was interrupted: root@other-1\.example, ") as refused:
        bench.call()

    assert refused.value.remedy.startswith("Nothing was changed. ")
    assert words in refused.value.remedy
    bench.end()


def test_waiting_looks_and_does_not_write(bench):
    bench.platform.names[OTHER.name] = None
    bench.start(wait=3600)
    bench.call()

    sent = bench.platform.sent
    assert sent[:3] == ["make held", "list", "delete held"]
    assert set(sent[3:-3]) == {"list"}
    assert sent[-3:] == ["make held", "list", "delete held"]


LAST_REQUESTS = [{"attempts": 1, "timeout": 10.0}, {"timeout": 10.0}, {"attempts": 1, "timeout": 10.0}]


def sleeps(bench: Bench) -> None:
    """Half an hour, of which the monotonic clock knows nothing."""
    bench.start()
    bench.call()
    bench.clock.asleep = timedelta(minutes=30)
