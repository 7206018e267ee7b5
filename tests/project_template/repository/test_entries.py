"""Lines of the list of artifacts: the same for the same entry, and nothing that leads out of the store is believed."""

import json

import pytest
from mlflow_ae5_server.common.errors import SnapshotDamaged
from mlflow_ae5_server.common.text import shown
from mlflow_ae5_server.repository.entries import FileEntry, FilePart, line, parse

A, B = "a" * 64, "b" * 64


@pytest.mark.parametrize(
    "entry",
    [
        FileEntry("0/run/artifacts/model.pkl", "file", 5, A, 1, "5:1:2:3", (FilePart(A, 0, 5, 5),)),
        FileEntry("empty", "file", 0, A, 1, "m", ()),
        FileEntry("shared", "file", 5, A, 1, "m", (FilePart(B, 7, 5, 100),)),
        FileEntry("at the front", "file", 5, A, 1, "m", (FilePart(B, 0, 5, 100),)),
        FileEntry("long", "file", 9, A, 1, "", (FilePart(A, 0, 5, 5), FilePart(B, 0, 4, 4))),
        FileEntry('new\nline \t"quote" ünï\U0001f600', "file", 0, A, 1, "m", ()),
        FileEntry(b"not utf-8 \xff\xfe".decode("utf-8", "surrogateescape"), "file", 0, A, 1, "m", ()),
        FileEntry("link", "link", 0, "", 0, "", (), "../somewhere"),
        FileEntry("pipe", "special", 0, "", 0, "", ()),
    ],
    ids=lambda entry: entry.path[:12],
)
def test_an_entry_survives_its_line(entry):
    written = line(entry)
    assert written.count(b"\n") == 1
    assert parse(written) == entry
    assert line(parse(written)) == written


@pytest.mark.parametrize(
    "change",
    [
        {"p": "../up"},
        {"p": "/root"},
        {"p": "a/../../up"},
        {"p": "a//b"},
        {"p": ""},
        {"p": "nul\0"},
        {"p": 5},
        {"s": 6, "o": [[B, 5]]},
        {"s": "5"},
        {"d": "A" * 64},
        {"d": "../../x"},
        {"o": [[A, 0, 5, 4]]},
        {"o": [[A, -1, 5, 4]]},
        {"o": [["../x", 5]]},
        {"o": 5},
        {"m": None},
    ],
    ids=str,
)
def test_nonsense_is_refused(change):
    good = {"p": "a", "s": 5, "d": A, "m": 1}
    assert parse(json.dumps(good).encode()).size == 5
    with pytest.raises(SnapshotDamaged):
        parse(json.dumps({**good, **change}).encode())


def test_a_line_with_more_than_an_entry_is_refused():
    good = json.dumps({"p": "a", "s": 5, "d": A, "m": 1}).encode()
    with pytest.raises(SnapshotDamaged):
        parse(good + b" {}")


def test_names_are_shown_on_one_printable_line():
    assert shown("a\nb\udcff ü") == "a\\nb\\udcff ü"
