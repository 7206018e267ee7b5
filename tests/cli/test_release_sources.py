"""Stages 4 to 6 with releases that come from somewhere: a mirror folder, `latest`, and a URL with a checksum."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import threading

import pytest

from tests.cli.bench import make_release


@pytest.fixture
def mirror(bench):
    folder = bench.folder / "mirror"
    folder.mkdir(exist_ok=True)
    shutil.copy(bench.release, folder / "mlflow.tracking.server.1.0.0.tar.gz")
    return folder


def configuration(bench, mirror):
    path = bench.folder / "mirrored.yaml"
    path.write_text(json.dumps({"release": {"source": "latest", "mirror": str(mirror)}}))
    return ["--config", str(path)]


def install(bench, capsys, *argv):
    return bench.run(capsys, "install", "--sandbox", "--json", *argv)


def test_latest_from_a_mirror_is_installed_and_the_repeat_changes_nothing(bench, capsys, mirror):
    options = configuration(bench, mirror)

    first = install(bench, capsys, *options, "--replace")
    again = install(bench, capsys, *options)

    assert first.code == 0, first.err
    assert "1.0.0" in first.data["stages"][3]["reason"]
    assert again.data["outcome"] == "unchanged", again.data


def test_a_newer_latest_is_a_planned_replacement(bench, capsys, mirror):
    options = configuration(bench, mirror)
    install(bench, capsys, *options, "--replace")
    newer = make_release(bench.folder, "newer.tar.gz", extra__txt="newer")
    shutil.copy(newer, mirror / "mlflow.tracking.server.1.1.0.tar.gz")

    cache = bench.folder / "state" / "releases"
    records = sorted(path.name for path in cache.iterdir())

    plan = bench.run(capsys, "plan", "--sandbox", "--json", *options)

    assert records == ["mlflow.tracking.server.1.0.0.tar.gz.sha256"]
    assert sorted(path.name for path in cache.iterdir()) == records, "a plan writes nothing, no checksum either"
    assert "no checksum to compare with" in plan.data["stages"][3]["reason"]
    assert "1.1.0" in plan.data["stages"][3]["reason"]
    (change,) = plan.data["stages"][5]["changes"]
    assert change["change"] == "replace_project"
    assert change["consequences"]
    (mirror / "mlflow.tracking.server.1.1.0.tar.gz").unlink()


@pytest.fixture
def web_mirror(mirror):
    (mirror / "latest").write_text("1.0.0\n")
    handler = functools.partial(Quiet, directory=str(mirror))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()
    (mirror / "latest").unlink()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_latest_is_downloaded_once_and_found_in_the_cache_afterwards(bench, capsys, web_mirror):
    options = configuration(bench, web_mirror)

    plan = bench.run(capsys, "plan", "--sandbox", "--json", *options)
    first = install(bench, capsys, *options, "--replace")
    again = install(bench, capsys, *options)

    assert plan.data["stages"][3]["changes"][0]["name"] == "1.0.0"
    assert first.data["stages"][3]["outcome"] == "changed", first.err
    assert "recorded" in first.data["stages"][3]["reason"]
    assert again.data["outcome"] == "unchanged", again.data
