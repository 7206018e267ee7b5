"""Projects: what may be uploaded, who sees what, and what is refused loudly."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.json_bombs import BOMBS as JSON_BOMBS
from tests.sandbox.support import PROJECT_FILE, Admin, Client, make_project_archive
from tests.yaml_bombs import BOMBS, ODD_VALUES


@pytest.fixture(scope="module")
def colleague(sandbox):
    Admin(sandbox.info).create("colleague", "pw", groups=["everyone", "data-science"])
    return Client(sandbox.info, "colleague", "pw")


@pytest.fixture(scope="module")
def project(client, project_archive):
    return client.upload(project_archive, "a project").json()


def tar_of(path: Path, *members: tuple[str, bytes | str | None]) -> None:
    """Members: (name, content), (name, link target as text; a hard link's after `=`), or (name, None) for a device."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if content is None:
                member.type = tarfile.CHRTYPE
            elif isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                if content.startswith("="):
                    member.type, member.linkname = tarfile.LNKTYPE, content[1:]
            else:
                member.size = len(content)
            tar.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else None)


def sparse(path: Path) -> None:
    """As GNU tar --sparse writes a file of a gigabyte with nothing in it."""
    member = tarfile.TarInfo("top/GNUSparseFile.1/zeros")
    member.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "top/zeros"}
    member.pax_headers["GNU.sparse.realsize"] = str(1 << 29)
    member.size = 512
    path.write_bytes(member.tobuf(tarfile.PAX_FORMAT) + b"0\n".ljust(512, b"\0") + b"\0" * 10_240)


def nul(path: Path) -> None:
    member = tarfile.TarInfo("top/x")
    member.pax_headers = {"path": "top/a\0b"}
    path.write_bytes(member.tobuf(tarfile.PAX_FORMAT) + b"\0" * 10_240)


def zeros(path: Path, size: int) -> None:
    """A file of which only the header is there: it is refused before it is read."""
    member = tarfile.TarInfo("top/zeros")
    member.size = size
    path.write_bytes(member.tobuf() + b"\0" * 10_240)


YML = ("top/anaconda-project.yml", PROJECT_FILE.encode())
BAD_ARCHIVES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "not an archive": (lambda p: p.write_text("hello"), "The project archive cannot be read"),
    "empty": (lambda p: p.write_bytes(b""), "The project archive cannot be read"),
    "two top folders": (
        lambda p: tar_of(p, YML, ("other/x", b"")),
        "A valid project archive contains only one project",
    ),
    "no folder": (
        lambda p: tar_of(p, ("anaconda-project.yml", b"")),
        "A valid project archive contains only one project",
    ),
    "no project file": (lambda p: tar_of(p, ("top/x", b"")), "The project archive has no anaconda-project.yml"),
    "escaping path": (lambda p: tar_of(p, YML, ("top/../../x", b"")), "Unsafe entry in the project archive"),
    "absolute path": (lambda p: tar_of(p, YML, ("/etc/x", b"")), "Unsafe entry in the project archive: /etc/x"),
    "escaping link": (lambda p: tar_of(p, YML, ("top/l", "/etc/passwd")), "Unsafe entry in the project archive: top/l"),
    "hard link that escapes": (
        lambda p: tar_of(p, YML, ("top/l", "=../x")),
        "Unsafe entry in the project archive: top/l",
    ),
    "way out over two links": (
        lambda p: tar_of(p, YML, ("top/d", "."), ("top/l", "d/d/../../x")),
        "Unsafe entry in the project archive: top/l",
    ),
    "way out behind a folder": (
        lambda p: tar_of(p, YML, ("top/d/x", b""), ("top/l", "d/../../x")),
        "Unsafe entry in the project archive: top/l",
    ),
    "link in place of the folder": (
        lambda p: tar_of(p, ("top", "elsewhere"), ("elsewhere/anaconda-project.yml", PROJECT_FILE.encode())),
        "Unsafe entry in the project archive: top",
    ),
    "link behind a link": (
        lambda p: tar_of(p, YML, ("top/d", "."), ("top/d/l", "x")),
        "The project archive cannot be read",
    ),
    "name with a NUL": (
        nul,
        "The project archive cannot be read",
    ),
    "10,000 folders": (
        lambda p: make_project_archive(p, files={f"d{n}/x": "" for n in range(5_000)}),
        "The project archive has more than 10,000 entries",
    ),
    "a file with holes": (
        sparse,
        "The project archive stores 'top/zeros' with holes (pack it without --sparse)",
    ),
    "file behind a link": (
        lambda p: tar_of(p, YML, ("top/d", "."), ("top/d/x", b"")),
        "The project archive cannot be read",
    ),
    "1 GiB and a byte": (
        lambda p: zeros(p, (1 << 30) + 1),
        "The project archive unpacks to more than 1.1 GB (at 'top/zeros')",
    ),
    "device": (lambda p: tar_of(p, YML, ("top/d", None)), "Unsafe entry in the project archive: top/d"),
    "not YAML": (
        lambda p: make_project_archive(p, project_file="commands: ["),
        "anaconda-project.yml is not valid YAML",
    ),
    "a date that is none": (
        lambda p: make_project_archive(p, project_file="a: 2026-13-45"),
        "anaconda-project.yml is not valid YAML",
    ),
    **{
        f"bomb of {name}": (lambda p, c=content: make_project_archive(p, project_file=c), "anaconda-project.yml ")
        for name, (content, _says) in BOMBS.items()
    },
    "a list": (lambda p: make_project_archive(p, project_file="[1]"), "anaconda-project.yml is not a mapping"),
    "boolean default": (
        lambda p: make_project_archive(p, project_file=PROJECT_FILE.replace("30d0h0m0s", "true")),
        "default value for variable MLFLOW_TRACKING_GC_TTL must be null, a string, or a number",
    ),
}


@pytest.mark.parametrize("kind", BAD_ARCHIVES)
def test_archives_that_are_refused(client, tmp_path, kind):
    write, reason = BAD_ARCHIVES[kind]
    write(tmp_path / "archive")
    answer = client.upload(tmp_path / "archive", f"bad {kind}")
    assert answer.status_code == 400
    assert answer.reason.startswith(reason)
    assert f"bad {kind}" not in {p["name"] for p in client.get("projects")}


def test_an_odd_value_is_a_value_or_refused(client, tmp_path):
    for number, value in enumerate(ODD_VALUES):
        text = PROJECT_FILE.replace("30d0h0m0s", value).replace("Crash:", f"? {value}\n  :")
        archive = make_project_archive(tmp_path / f"{number}.tar.gz", project_file=text)
        assert client.upload(archive, f"odd {number}").status_code in (200, 400), value[:40]


def test_a_truncated_archive_is_refused(client, project_archive, tmp_path):
    whole = project_archive.read_bytes()
    (tmp_path / "half.tar.gz").write_bytes(whole[: len(whole) // 2])
    assert client.upload(tmp_path / "half.tar.gz", "half").reason == "The project archive cannot be read"


def test_a_zip_is_taken_too(client, tmp_path):
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as file:
        file.writestr("top/anaconda-project.yml", PROJECT_FILE)
    assert client.upload(tmp_path / "p.zip", "zipped").status_code == 200
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as file:
        file.writestr("top/anaconda-project.yml", PROJECT_FILE)
        file.writestr("../outside", "x")
    assert client.upload(tmp_path / "evil.zip", "evil").reason.startswith("Unsafe entry")


def test_links_take_no_room(client, tmp_path):
    links = [*((f"top/hard{n}", "=top/zeros") for n in range(500)), ("top/soft", "zeros")]
    tar_of(tmp_path / "a.tar.gz", YML, ("top/zeros", b"\0" * (20 << 20)), *links)
    project = client.upload(tmp_path / "a.tar.gz", "linked").json()
    content = client.call("GET", f"projects/{project['id']}/revisions/latest/archive").content
    assert len(content) < 1 << 20
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        assert sum(member.islnk() for member in tar) == 500


def test_links_are_kept_also_where_they_lead_nowhere(client, tmp_path):
    links = {"a": "b", "b": "a", "d/up": "../x/y", "gone": "nothing", "self": "."}
    tar_of(tmp_path / "a.tar.gz", YML, *((f"top/{name}", target) for name, target in links.items()))
    project = client.upload(tmp_path / "a.tar.gz", "links").json()
    content = client.call("GET", f"projects/{project['id']}/revisions/latest/archive").content
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        kept = {member.name.partition("/")[2]: member.linkname for member in tar if member.issym()}
    assert kept == links


def test_a_name_is_unique_for_its_owner(client, colleague, project, project_archive):
    again = client.upload(project_archive, project["name"])
    assert (again.status_code, again.reason) == (400, "Project name is not unique")
    assert colleague.upload(project_archive, project["name"]).status_code == 200


def test_an_archive_comes_back_under_the_platforms_folder_name(client, project):
    base = f"projects/{project['id']}/revisions"
    latest = client.call("GET", f"{base}/latest/archive")
    assert latest.headers["Content-Type"] == "application/gzip"
    assert latest.content == client.call("GET", f"{base}/0.0.1/archive").content
    with tarfile.open(fileobj=io.BytesIO(latest.content)) as tar:
        assert {m.name.split("/")[0] for m in tar} == {project["repository"]}
    assert client.call("GET", f"{base}/9.9/archive").status_code == 404


def test_what_is_not_shared_does_not_exist(client, colleague, project):
    one = f"projects/{project['id']}"
    assert colleague.call("GET", f"{one}/revisions").status_code == 404
    put = client.call("PUT", f"{one}/collaborators", json=[{"id": "data-science", "type": "group", "permission": "r"}])
    assert set(put.json()) == {"collaborators", "action"}
    assert project["id"] in {p["id"] for p in colleague.get("projects")}
    assert colleague.get(f"{one}/revisions")
    assert colleague.call("PATCH", one, json={"editor": "notebook"}).status_code == 403
    assert colleague.call("DELETE", one).status_code == 403
    assert client.call("PUT", f"{one}/collaborators", json=[]).json()["collaborators"] == []


@pytest.mark.parametrize(
    "collaborator",
    [
        {"id": "nobody-knows", "type": "user", "permission": "r"},
        {"id": "no-such-group", "type": "group", "permission": "r"},
        {"id": "everyone", "type": "group", "permission": "admin"},
        {"id": "everyone", "type": "crowd", "permission": "r"},
        {"id": "everyone", "type": "group"},
        {"id": "everyone", "type": "group", "permission": "r", "extra": 1},
    ],
)
def test_collaborators_are_checked(client, project, collaborator):
    answer = client.call("PUT", f"projects/{project['id']}/collaborators", json=[collaborator])
    assert answer.status_code == 400


STRICT: list[tuple[str, str, dict[str, Any], int]] = [
    ("GET", "nothing", {}, 501),
    ("POST", "projects", {"json": {"name": "x", "source": "https://example.invalid/x.tar.gz"}}, 501),
    ("POST", "projects/{id}/sessions", {}, 501),
    ("DELETE", "projects", {}, 501),
    ("GET", "projects?owner=me", {}, 400),
    ("PATCH", "projects/{id}", {"json": {"colour": "red"}}, 400),
    ("PATCH", "projects/{id}", {"json": {"name": 3}}, 400),
    ("PATCH", "projects/{id}", {"json": ["name"]}, 400),
    ("PATCH", "projects/{id}", {"data": "name=x"}, 400),
    ("PATCH", "projects/{id}", {"data": "{", "headers": {"Content-Type": "application/json"}}, 400),
    *(
        ("PATCH", "projects/{id}", {"data": data, "headers": {"Content-Type": "application/json"}}, 400)
        for data in JSON_BOMBS.values()
    ),
    ("PATCH", "projects/{id}", {"data": "{}", "headers": {"Content-Type": "application/json; charset=nonsense"}}, 400),
    ("PATCH", "projects/{id}", {"json": {"editor": "ed"}}, 400),
    ("PATCH", "projects/{id}", {"json": {"resource_profile": "huge"}}, 400),
    ("DELETE", "projects/{id}", {"json": {"force": True}}, 400),
    ("GET", "projects/a0-00000000000000000000000000000000/revisions", {}, 404),
    ("POST", "projects/upload", {"files": {"file": b"x"}}, 400),
    ("POST", "projects/upload", {"files": {"project_file": b"x"}}, 400),
    ("POST", "projects/upload", {"data": {"name": "x"}}, 400),
    ("GET", "projects/actions?q=other", {}, 400),
]


@pytest.mark.parametrize(("method", "path", "request_", "status"), STRICT)
def test_what_is_not_understood_is_refused_loudly(client, project, method, path, request_, status):
    answer = client.call(method, path.format(id=project["id"]), **request_)
    assert answer.status_code == status
    assert answer.reason == answer.json()["message"]
    assert len(answer.reason) > 5


def test_a_project_with_a_deployment_is_not_deleted(client, project_archive):
    project = client.upload(project_archive, "in use").json()
    deployment = client.deploy(project["id"], name="keeps it", static_endpoint="keeps-it")
    client.post(f"projects/{project['id']}/jobs", client.job_body(project["id"], "idle", schedule="0 0 1 1 *"))
    refused = client.call("DELETE", f"projects/{project['id']}")
    assert (refused.status_code, refused.reason) == (400, "Project has running deployments: keeps it")
    assert client.get(f"projects/{project['id']}/deployments")[0]["id"] == deployment["id"]
    assert client.get(f"projects/{project['id']}/jobs")[0]["name"] == "idle"

    client.call("DELETE", f"deployments/{deployment['id']}")
    assert "keeps-it" in {e["id"] for e in client.get("/platform/deploy/api/v1/apps/static-endpoints")["data"]}
    assert client.call("DELETE", f"projects/{project['id']}").status_code == 200
    assert "keeps-it" not in {e["id"] for e in client.get("/platform/deploy/api/v1/apps/static-endpoints")["data"]}
    assert "idle" not in {j["name"] for j in client.get("jobs")}
