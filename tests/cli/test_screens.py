"""Screens of changes, for a person at 80 columns: stages, what is asked, and what an install ends with."""

from __future__ import annotations

import functools
import io
from dataclasses import replace

import pytest

from mlflow_ae5_deploy.engine.change import Consequence, Impact
from mlflow_ae5_deploy.engine.stage import RunResult, StageResult
from mlflow_ae5_deploy.jobs.reports import RestoreReport
from mlflow_ae5_deploy.operations.uninstall import UninstallResult
from mlflow_ae5_deploy.operations.uninstall_plan import Kept
from mlflow_ae5_deploy.render.backup import show_restored
from mlflow_ae5_deploy.render.changes import StageLines, question, show_consequences
from mlflow_ae5_deploy.render.console import Reporter
from mlflow_ae5_deploy.render.install import Installed, show_run
from mlflow_ae5_deploy.render.uninstall import show_plan, show_uninstalled
from mlflow_ae5_deploy.resources.deployment import DOWN, TOKENS, AwaitDeployment, RestartDeployment, StopDeployment
from mlflow_ae5_deploy.resources.project import DeleteProject, ReplaceProject
from mlflow_ae5_deploy.resources.secrets import DeleteSecrets, SetSecrets
from mlflow_ae5_deploy.runbook.stages.s01_service_account import CreateAccount
from tests.cli.terminal import lines

SETS = SetSecrets(names=("A_NAME", "ANOTHER"), reason="not set")
RESTARTS = RestartDeployment(
    name="mlflow",
    id="a2-c20dfe1561f749d0a72f03636339746b",
    reason="",
    differences=("endpoint: one → two", "resource profile: default → large"),
    consequences=(DOWN, TOKENS),
)
REPLACES = ReplaceProject(
    name="mlflow",
    reason="edited on the platform since the upload (x)",
    differences=("variable MLFLOW_WORKERS: auto → 2",),
)


@pytest.fixture
def screen(monkeypatch):
    """screen(print, **of the reporter) -> lines."""
    return functools.partial(lines, monkeypatch)


def stages(*results, **given):
    def write(reporter):
        lines = StageLines(reporter)
        for number, outcome, *rest in results:
            reason, changes, warnings = [*rest, *("", (), ())[len(rest) :]]
            lines.add(StageResult(number, f"stage-{number}", outcome, reason, changes, warnings))
        lines.flush()

    return write


def test_unchanged_stages_are_one_line_and_each_change_has_one(screen):
    shown = screen(
        stages(
            (1, "unchanged", "fine"),
            (2, "unchanged", "fine"),
            (3, "changed", "tested", (SETS, CreateAccount(name="svc", reason="it does not exist"))),
            (4, "unchanged", "https://x"),
            (5, "changed", "", (SETS,)),
        )
    )
    assert shown == [
        "✓ 1-2                 unchanged: stage-1, stage-2",
        "+  3 stage-3          set 2 secrets: not set",
        "                      create account svc: it does not exist",
        "                      tested",
        "✓  4 stage-4          https://x",
        "+  5 stage-5          set 2 secrets: not set",
    ]


def test_verbose_shows_each_stage_and_what_is_counted(screen):
    shown = screen(stages((1, "unchanged", "fine"), (2, "changed", "", (SETS,))), verbose=True)
    assert shown == [
        "✓  1 stage-1          fine",
        "+  2 stage-2          set 2 secrets: not set",
        "                        A_NAME",
        "                        ANOTHER",
    ]


def test_a_warning_is_seen_also_of_an_unchanged_stage(screen):
    shown = screen(stages((1, "unchanged", "fine", (), ("Look out.",)), (2, "changed", "", (SETS,), ("Look out.",))))
    assert shown == [
        "!  1 stage-1          Look out.",
        "+  2 stage-2          set 2 secrets: not set",
        "                      ! Look out.",
    ]


def test_a_plan_shows_what_differs_and_what_it_means(screen):
    shown = screen(stages((8, "planned", "1 change", (replace(RESTARTS, reason="it is failed"),))))
    assert shown[:4] == [
        "+  8 stage-8          restart deployment mlflow: it is failed",
        "                        endpoint: one → two",
        "                        resource profile: default → large",
        "                      - the server is down until it has started again",
    ]


def test_consequences_stand_once_before_the_question(screen):
    changed = [
        (8, outcome, "Not confirmed: restart deployment.", (RESTARTS,)) for outcome in ("changed", "declined", "failed")
    ]
    text = "\n".join(screen(stages(*changed)))
    assert DOWN.text not in text
    assert "-  8 stage-8          not confirmed" in text
    assert "✗  8 stage-8          failed" in text
    assert "endpoint: one" not in text


def test_a_person_is_asked_about_differences_not_checksums(screen):
    shown = screen(lambda reporter: show_consequences(reporter, [REPLACES, RESTARTS]))
    assert shown[:6] == [
        "! Replace project mlflow: edited on the platform since the upload (x)",
        "    variable MLFLOW_WORKERS: auto → 2",
        "! Restart deployment mlflow",
        "    endpoint: one → two",
        "    resource profile: default → large",
        "  Consequences",
    ]
    assert len(set(shown)) == len(shown)
    assert max(map(len, shown)) <= 80
    assert question([REPLACES]) == "Replace project mlflow?"
    assert question([REPLACES, RESTARTS]) == "Make these 2 changes?"


def test_many_differences_are_cut_short_except_with_verbose(screen):
    many = replace(REPLACES, differences=tuple(f"variable V{number}: added" for number in range(30)))
    shown = screen(lambda reporter: show_consequences(reporter, [many]))
    assert shown[9:12] == ["    variable V8: added", "    and 21 more (-v shows all)", "  Consequences"]
    assert "    variable V29: added" in screen(lambda reporter: show_consequences(reporter, [many]), verbose=True)


@pytest.mark.parametrize(
    ("added", "removed", "last"), [(8, 3, "    and 2 more (-v shows all)"), (5, 14, "    and 5 more (-v shows all)")]
)
def test_removals_come_first_and_are_never_cut(screen, added, removed, last):
    lines = [f"variable A{number}: added" for number in range(added)]
    lines += [f"variable R{number}: removed" for number in range(removed)]
    change = replace(REPLACES, differences=tuple(lines))
    shown = screen(lambda reporter: show_consequences(reporter, [change]))
    assert shown[1 : removed + 1] == [f"    variable R{number}: removed" for number in range(removed)]
    assert shown[shown.index("  Consequences") - 1] == last


def test_an_uninstall_begins_with_what_goes(screen):
    meaning = (Consequence(Impact.DOWNTIME, "clients lose the server"),)
    changes = [StopDeployment(name="d", reason="", consequences=meaning), DeleteProject(name="p", reason="")]
    kept = [
        Kept("the account", "svc"),
        Kept("database", "sqlite:///x", at_risk=True),
        Kept("artifacts", "data/a", at_risk=True),
        Kept("snapshots", "s3://b"),
        Kept("2 secrets", "A, B", "--purge-secrets deletes them"),
    ]

    shown = screen(lambda reporter: show_plan(reporter, changes, kept))

    assert shown[:5] == [
        "! Uninstall the MLflow tracking server",
        "    stop deployment d",
        "    delete project p",
        "  Consequences",
        "  - clients lose the server",
    ]
    assert "  Stays (-v shows where): the account, snapshots, 2 secrets (--purge-secrets" in shown
    assert "  deletes them)." in shown
    assert " ".join(line.strip() for line in shown).endswith(f"! {LOST}")
    assert "  - snapshots (s3://b)" in screen(lambda reporter: show_plan(reporter, changes, kept), verbose=True)


LOST = "Lost with the project unless on a persistent volume: database, artifacts."
DELETES_SECRETS = DeleteSecrets(names=("A_KEY", "B_KEY"), reason="")
# changes, what is kept, secrets that exist -> the lines
UNINSTALLED = [
    (
        [DeleteProject(name="p", reason="")],
        [Kept("database", "x", at_risk=True), Kept("artifacts", "y", at_risk=True), Kept("snapshots", "s3://b")],
        (),
        [
            "+ delete project p",
            "✓ Uninstalled.",
            f"! {LOST}",
        ],
    ),
    (  # the project, and what is in it, was deleted before
        [DELETES_SECRETS],
        [Kept("database", "x", at_risk=True)],
        ("A_KEY", "B_KEY"),
        [
            "+ delete 2 secrets",
            "    A_KEY",
            "    B_KEY",
            "✓ Uninstalled. Database, artifacts and snapshots stay.",
        ],
    ),
    (
        [],
        [],
        ("A_KEY", "B_KEY"),
        [
            "✓ Unchanged: nothing is installed.",
            "  Left: 2 secrets (A_KEY, B_KEY)",
            "  To delete them: tool uninstall --purge-secrets",
        ],
    ),
    (
        [],
        [],
        ("A_KEY",),
        [
            "✓ Unchanged: nothing is installed.",
            "  Left: 1 secret (A_KEY)",
            "  To delete them: tool uninstall --purge-secrets",
        ],
    ),
    ([], [], (), ["✓ Unchanged: nothing is installed."]),
]


@pytest.mark.parametrize(("changes", "kept", "secrets", "expected"), UNINSTALLED)
def test_an_uninstall_claims_only_what_it_did(screen, changes, kept, secrets, expected):
    result = UninstallResult(changes, kept, secrets)

    shown = screen(lambda reporter: show_uninstalled(reporter, result, "tool"))

    assert " ".join(line.strip() for line in shown) == " ".join(line.strip() for line in expected)


@pytest.mark.parametrize("write", [show_consequences, functools.partial(show_plan, kept=[])])
def test_what_a_question_is_about_is_written_at_once(write):
    """Stdout may come through another program, which prints in between (`install | cat`)."""
    written = []

    class Pipe(io.StringIO):
        def write(self, text):
            written.append(text)
            return len(text)

    write(Reporter(out=io.StringIO(), err=Pipe()), changes=[REPLACES, RESTARTS])

    assert len(written) == 1
    assert TOKENS.text in " ".join(written[0].split())


def test_secrets_are_named_before_they_are_deleted(screen):
    shown = screen(lambda reporter: show_plan(reporter, [DELETES_SECRETS], []))
    assert shown[1:4] == ["    delete 2 secrets", "      A_KEY", "      B_KEY"]


INSTALLED = Installed("h", "svc", "p", "d", "a2-1", "https://x", "/ca.pem", key_file="/keys", new_keys=True)


def run(*outcomes):
    """The first is the stage `deploy`."""
    names = ["deploy", *["other"] * len(outcomes)]
    results = tuple(StageResult(n, names[n - 1], outcome, "") for n, outcome in enumerate(outcomes, 1))
    return RunResult(results, None, 7.2, 47, 14)


@pytest.mark.parametrize(
    ("verb", "outcomes", "first"),
    [
        ("plan", ("planned", "unchanged"), "+ 1 of 2 stages would change. Nothing was changed yet."),
        ("plan", ("unchanged", "unchanged"), "✓ No changes: all 2 stages match the configuration."),
        ("install", ("unchanged", "unchanged"), "✓ Unchanged: all 2 stages match the configuration."),
        ("install", ("unchanged", "changed"), "✓ The MLflow tracking server is installed. 1 of 2 stages changed."),
        ("install", ("changed", "unchanged"), "✓ The MLflow tracking server is installed. 1 of 2 stages changed."),
    ],
)
def test_the_summary(screen, verb, outcomes, first):
    shown = screen(lambda reporter: show_run(reporter, verb, run(*outcomes), INSTALLED, ["next"]))

    assert next(line for line in shown if line) == first
    assert "  Took        7.2 s (47 API calls, 14 writes)" in shown
    assert ("  export MLFLOW_TRACKING_URI=https://x" in shown) is (outcomes[0] == "changed")
    if "changed" not in outcomes:
        assert len(shown) <= 9


WAITS = AwaitDeployment(name="d", reason="started but not healthy (502)")


@pytest.mark.parametrize(
    ("also", "first"),
    [
        ((), "! No changes. The server is not ready: `install` would wait for it."),
        (
            (StageResult(9, "share", "planned", "", (SETS,)),),
            "! 1 of 2 stages would change. Nothing was changed yet. The server is not ready:",
        ),
    ],
)
def test_to_wait_for_the_server_is_no_change(screen, also, first):
    stage = StageResult(8, "deploy", "planned", "", (WAITS,))
    result = RunResult((stage, *also), None, 1.0, 5, 0)

    shown = screen(lambda reporter: show_run(reporter, "plan", result, INSTALLED, []))

    assert next(line for line in shown if line) == first
    assert screen(stages((8, "planned", "", (WAITS,))))[0].startswith("!  8 stage-8")


def test_after_a_failed_verification_nothing_looks_done(screen):
    changed = run("changed", "changed")
    shown = screen(lambda reporter: show_run(reporter, "install", changed, INSTALLED, ["next"], failed=True))

    assert "  Took        7.2 s (47 API calls, 14 writes)" in shown
    done = ("✓", "Settings of a client", "Next", "installed")
    assert not [line for line in shown if any(word in line for word in done)]
    restored = RestoreReport(outcome="restored", snapshot="S1")
    assert screen(lambda reporter: show_restored(reporter, restored))[0].startswith("✓ Restored snapshot")
    assert screen(lambda reporter: show_restored(reporter, restored, failed=True))[0].startswith("+ Restored snapshot")


@pytest.mark.parametrize(
    ("outcome", "back"),
    [("done", "`restore --undo --stop-server`"), ("undone", "`restore --undo --saved a_copy --stop-server`")],
)
def test_the_command_that_brings_replaced_data_back_works_after_an_undo_too(screen, outcome, back):
    report = RestoreReport(outcome=outcome, snapshot="20261130T021246Z-fd882b", saved_copy="a_copy")
    shown = screen(lambda reporter: show_restored(reporter, report))
    assert f"{back} brings it back." in " ".join(" ".join(shown).split())


def test_a_screen_that_repeats_shows_its_first_lines_where_not_all_fit(screen, monkeypatch):
    monkeypatch.setenv("LINES", "6")

    def show(reporter):
        for _ in range(2):
            with reporter.one_screen():
                for number in range(5):
                    reporter.line(f"line {number}")

    once = ["line 0", "line 1", "line 2", "  ... 2 more lines in a higher terminal"]
    assert [line.removeprefix("\x1b[2J\x1b[H") for line in screen(show)] == [*once, *once]
