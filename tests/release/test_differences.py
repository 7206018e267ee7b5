"""What a person is shown before a project is replaced: what differs, never two checksums, and no secret."""

from __future__ import annotations

import io

import pytest

from mlflow_ae5_deploy.common.members import Limits, walk
from mlflow_ae5_deploy.config.settings import SlipstreamSettings
from mlflow_ae5_deploy.release.archive import survey_members
from mlflow_ae5_deploy.release.customize import build
from mlflow_ae5_deploy.release.differences import differences
from mlflow_ae5_deploy.release.project_file import PROJECT_FILE
from mlflow_ae5_deploy.release.provenance import same_content

# slip-stream settings of the uploaded project, of the desired one -> the lines
CUSTOMIZED = [
    ({}, {}, ()),
    ({}, {"variables": {"MLFLOW_WORKERS": "2"}}, ("variable MLFLOW_WORKERS: added (2)",)),
    ({"variables": {"MLFLOW_WORKERS": "2"}}, {}, ("variable MLFLOW_WORKERS: removed",)),
    (
        {"variables": {"MLFLOW_TRACKING_GC_TTL": "7d"}},
        {"variables": {"QUOTED": ""}},
        ("variable MLFLOW_TRACKING_GC_TTL: 7d → 30d0h0m0s", "variable QUOTED: 60 → empty"),
    ),
    (
        {},
        {"dependencies": {"mlflow": "==3.17.3"}},
        ("package mlflow: == 3.17.2 → ==3.17.3", "package mlflow: =2.9 → ==3.17.3"),
    ),
    ({}, {"dependencies": {"cowsay": "==6.0"}}, ("package cowsay: added (==6.0)",)),
    ({}, {"channels": ["conda-forge"]}, ("channels: defaults → conda-forge, defaults",)),
    ({}, {"commands": {"Hello": {"unix": "echo"}}}, ("command Hello: added",)),
    ({}, {"commands": {"TrackingServer": {"unix": "python -m other"}}}, ("command TrackingServer: changed",)),
]


@pytest.mark.parametrize(("uploaded", "desired", "lines"), CUSTOMIZED)
def test_customizations(template, tmp_path, uploaded, desired, lines):
    before = build(template, SlipstreamSettings(**uploaded), tmp_path / "before.tar.gz")
    after = build(template, SlipstreamSettings(**desired), tmp_path / "after.tar.gz")

    compared = same_content(before.path.read_bytes(), after)

    assert (compared.differences, compared.same) == (lines, not lines)


def project(make, tmp_path, name, files, project_file=None):
    entries = [make.entry("p/", kind=b"5"), make.entry(f"p/{PROJECT_FILE}", project_file or make.project)]
    entries += [make.entry(f"p/{path}", content.encode()) for path, content in files.items()]
    raw = make.tar(tmp_path / name, entries).read_bytes()
    return survey_members(walk(io.BytesIO(raw), Limits()), name, keep={PROJECT_FILE: 1 << 20})


FILES = [
    ({"a": "1"}, {"a": "1"}, ()),
    ({"a": "1", "gone": ""}, {"a": "2", "new": ""}, ("file a: changed", "file gone: removed", "file new: added")),
    ({str(n): "1" for n in range(9)}, {str(n): "2" for n in range(8)}, ("files: 8 changed, 1 removed",)),
    ({".gitignore": "1"}, {".gitignore": "2"}, ()),  # AE5 edits it
]


@pytest.mark.parametrize(("observed", "desired", "lines"), FILES)
def test_files_are_named_or_counted(make, tmp_path, observed, desired, lines):
    before, after = project(make, tmp_path, "a.tar.gz", observed), project(make, tmp_path, "b.tar.gz", desired)
    assert differences(before, after) == lines


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("AWS_SECRET_ACCESS_KEY", "hunter2", "variable AWS_SECRET_ACCESS_KEY: removed"),
        ("QUOTED", "postgresql://user:hunter2@db/x", "variable QUOTED: changed"),
    ],
)
def test_a_secret_that_somebody_wrote_into_the_project_is_not_shown(make, tmp_path, name, value, shown):
    edited = make.project.replace(b"  QUOTED: '60'\n", b"") if name == "QUOTED" else make.project
    edited = edited.replace(b"variables:\n", f"variables:\n  {name}: {value}\n".encode())
    lines = differences(project(make, tmp_path, "a.tar.gz", {}, edited), project(make, tmp_path, "b.tar.gz", {}))
    assert lines == (shown,)


def test_a_project_file_that_cannot_be_read_is_changed(make, tmp_path):
    observed = project(make, tmp_path, "a.tar.gz", {}, b"{")
    assert differences(observed, project(make, tmp_path, "b.tar.gz", {})) == (f"file {PROJECT_FILE}: changed",)


def test_another_release_is_named(template, tmp_path):
    before = build(template, SlipstreamSettings(), tmp_path / "a.tar.gz")
    newer = type(template)("version", "0.2.0", "0.2.0", template.path, None, "none")
    (template.path / "run.sh").write_text("newer")
    compared = same_content(before.path.read_bytes(), build(newer, SlipstreamSettings(), tmp_path / "b.tar.gz"))
    assert compared.differences == ("release: bundled 0.1.0 → 0.2.0", "file run.sh: changed")
