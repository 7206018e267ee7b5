"""What restores keep aside, listed and removed by name through `main(argv)`."""

from __future__ import annotations

import pytest

from tests.cli.answers import assert_tells
from tests.cli.rotating import volume
from tests.cli.snapshotting import make_snapshotting_release


@pytest.fixture
def site(bench, capsys):
    """Installed, and something is kept aside."""
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


def test_they_are_named(site, capsys):
    told = restore(site, capsys, "--list-saved")
    data = restore(site, capsys, "--list-saved", "--json").data

    assert told.code == 0, told.err
    assert "1 is kept aside" in told.out
    assert "kept-1: a database and 5 files (5.0 kB), kept aside" in " ".join(told.out.split())
    assert (data["verb"], data["action"], data["outcome"]) == ("restore", "list-saved", "done")
    assert [item["name"] for item in data["run"]["report"]["saved_copies"]] == ["kept-1"]
    assert calls(site) == ["Restore --list-saved"] * 2


def test_what_would_go_is_shown_and_stays(site, capsys):
    shown = restore(site, capsys, "--drop-saved", "kept-1")

    assert shown.code == 0, shown.err
    assert "would remove kept-1: a database and 5 files (5.0 kB)" in shown.out
    assert "Nothing was removed. `restore --drop-saved kept-1 --yes --sandbox` removes it for good." in shown.out
    assert calls(site) == ["Restore --drop-saved kept-1 --dry-run"]
    assert (volume(site) / "kept").exists()


def test_it_goes_when_agreed_to_and_the_history_tells(site, capsys):
    done = restore(site, capsys, "--drop-saved", "kept-1", "--yes", "--json")
    again = restore(site, capsys, "--drop-saved", "kept-1", "--yes", "--json")
    told = site.run(capsys, "history", "--sandbox")

    assert done.code == 0, done.err
    assert done.data["run"]["report"]["deleted"]["name"] == "kept-1"
    assert done.data["run"]["message"].startswith("removed kept-1: a database and 5 files")
    assert not (volume(site) / "kept").exists()
    assert "remove for good what was kept aside as kept-1" in " ".join(told.out.split())
    assert_tells(again, 15, "nothing is kept aside as kept-1")


def test_while_a_restore_is_unfinished_it_is_kept(site, capsys):
    (volume(site) / "break-Restore").write_text("22")
    assert_tells(restore(site, capsys, "--drop-saved", "kept-1", "--yes", "--json"), 22, "removal of what a restore")
    assert (volume(site) / "kept").exists()


def test_a_name_that_can_be_none_is_refused_in_its_own_words(site, capsys):
    told = restore(site, capsys, "--drop-saved", "../artifacts")

    assert_tells(
        told, 2, "--drop-saved takes the name of what a restore kept aside", "`restore --list-saved --sandbox`"
    )
    assert "snapshot" not in told.err


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
def test_it_goes_with_nothing_that_restores(site, capsys, argv):
    assert restore(site, capsys, *argv, "--json").code == 2
    assert calls(site) == []
