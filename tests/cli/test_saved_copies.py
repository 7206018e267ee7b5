"""The saved copies of restores, listed and deleted by name through `main(argv)`."""

from __future__ import annotations

import pytest

from tests.cli.answers import assert_error
from tests.cli.rotating import volume
from tests.cli.snapshotting import make_snapshotting_release


@pytest.fixture
def site(bench, capsys):
    """Installed, with one saved copy."""
    if bench.release.name != "snapshotting.tar.gz":
        bench.release = make_snapshotting_release(bench.folder / "snapshotting.tar.gz")
        assert bench.install(capsys).code == 0
    (volume(bench) / "kept").write_text("schema-1\nkept\n")
    (volume(bench) / "calls").unlink(missing_ok=True)
    (volume(bench) / "break-Restore").unlink(missing_ok=True)
    return bench


def restore(site, capsys, *argv):
    return site.run(capsys, "restore", "--sandbox", *argv)


def calls(site) -> list[str]:
    file = volume(site) / "calls"
    return file.read_text().splitlines() if file.exists() else []


def test_they_are_listed(site, capsys):
    shown = restore(site, capsys, "--list-saved")
    data = restore(site, capsys, "--list-saved", "--json").data

    assert shown.code == 0, shown.err
    assert "1 saved copy" in shown.out
    assert "kept-1: a database and 5 files (5.0 kB), saved" in " ".join(shown.out.split())
    assert (data["verb"], data["run"]["report"]["action"], data["outcome"]) == ("restore", "list-saved", "done")
    assert [item["name"] for item in data["run"]["report"]["saved_copies"]] == ["kept-1"]
    assert calls(site) == ["Restore --list-saved"] * 2


def test_a_copy_is_shown_and_not_deleted_without_consent(site, capsys):
    shown = restore(site, capsys, "--drop-saved", "kept-1")

    assert shown.code == 0, shown.err
    assert "Would delete kept-1: a database and 5 files (5.0 kB), saved 2026-11-22 00:00 UTC by" in shown.out
    assert "Nothing was deleted. `restore --drop-saved kept-1 --yes --sandbox` deletes it permanently." in shown.out
    assert calls(site) == ["Restore --drop-saved kept-1 --dry-run"]
    assert (volume(site) / "kept").exists()


def test_a_copy_is_deleted_with_consent_and_the_history_shows_it(site, capsys):
    done = restore(site, capsys, "--drop-saved", "kept-1", "--yes", "--json")
    again = restore(site, capsys, "--drop-saved", "kept-1", "--yes", "--json")
    history = site.run(capsys, "history", "--sandbox", "-v")

    assert done.code == 0, done.err
    assert done.data["run"]["report"]["deleted"]["name"] == "kept-1"
    assert done.data["run"]["message"].startswith("deleted kept-1: a database and 5 files")
    assert not (volume(site) / "kept").exists()
    assert "delete saved copy kept-1" in " ".join(history.out.split())
    assert_error(again, 15, "there is no saved copy kept-1")


@pytest.mark.parametrize(
    ("options", "recorded", "outcome"),
    [
        (["--list-saved"], "restore --list-saved", "done"),
        (["--drop-saved", "kept-1"], "restore --drop-saved", "done"),
        (["--dry-run"], "restore --dry-run", "NotFound"),  # there is no snapshot
        (["--undo", "--dry-run"], "restore --undo --dry-run", "done"),
    ],
)
def test_the_history_says_what_a_restore_was_for(site, capsys, options, recorded, outcome):
    def history():
        return site.run(capsys, "history", "--sandbox", "--limit", "0", "--json").data["entries"]

    before = len(history())

    restore(site, capsys, *options)

    entries = history()
    assert len(entries) == before + 1
    assert (entries[0]["verb"], entries[0]["outcome"]) == (recorded, outcome)


@pytest.mark.parametrize(
    ("words", "title"),
    [
        (["backup", "show", "--snapshot", "nope"], "The lookup of the snapshot failed: there is no snapshot nope."),
        (["backup", "verify", "--snapshot", "nope"], "The verification of the snapshot failed: there is no snapshot"),
        (["drill", "--snapshot", "nope"], "The drill failed: there is no snapshot nope."),
        (["restore", "--drop-saved", "nope"], "The lookup of the saved copy failed: there is no saved copy nope."),
    ],
)
def test_what_does_not_exist_is_told_once(site, capsys, words, title):
    refused = site.run(capsys, *words, "--sandbox")

    assert_error(refused, 15, title)
    assert refused.err.count("there is no") == 1


def test_a_copy_stays_while_a_restore_is_interrupted(site, capsys):
    (volume(site) / "break-Restore").write_text("22")
    assert_error(
        restore(site, capsys, "--drop-saved", "kept-1", "--yes", "--json"), 22, "The deletion of a saved copy failed"
    )
    assert (volume(site) / "kept").exists()


def test_a_value_that_is_no_name_is_refused(site, capsys):
    refused = restore(site, capsys, "--drop-saved", "../artifacts")

    assert_error(
        refused, 2, "--drop-saved takes the name of a saved copy", "`mlflow-ae5-deploy restore --list-saved --sandbox`"
    )
    assert "snapshot" not in refused.err


@pytest.mark.parametrize(
    "argv",
    [
        ("--drop-saved", "kept-1", "--replace"),
        ("--drop-saved", "kept-1", "--dry-run"),
        ("--drop-saved", "kept-1", "--undo"),
        ("--drop-saved", "kept-1", "--list-saved"),
        ("--drop-saved", "kept-1", "--snapshot", "latest"),
        ("--list-saved", "--stop-server"),
        ("--drop-saved", ""),
        ("--drop-saved", "--yes"),
    ],
)
def test_it_excludes_every_option_of_a_restore(site, capsys, argv):
    assert restore(site, capsys, *argv, "--json").code == 2
    assert calls(site) == []
