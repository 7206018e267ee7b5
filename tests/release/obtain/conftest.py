"""GitHub in small, on a server on loopback."""

from __future__ import annotations

import json
import os

import pytest

from mlflow_ae5_deploy.release.models import FetchSettings
from tests.release.obtain.support import ASSET, NAME


@pytest.fixture
def archive(tmp_path, make):
    """A real project archive of about 100 kB, so that it comes in several pieces."""
    entries = [*make.good(), make.entry("project/noise", os.urandom(100_000))]
    return make.tar(tmp_path / "upstream.tar.gz", entries).read_bytes()


@pytest.fixture
def settings(https, ca_file, tmp_path):
    return FetchSettings(cache_dir=tmp_path / "cache", ca_file=ca_file, github_api=f"{https.url}/api")


@pytest.fixture
def github(https, reply, archive):
    """GitHub's API in small, and its assets behind a redirect to another address."""
    release = {
        "tag_name": "1.2.3",
        "assets": [
            {"name": "notes.txt", "browser_download_url": f"{https.url}/notes.txt"},
            {"name": NAME, "browser_download_url": f"{https.url}{ASSET}"},
        ],
    }
    https.replies["/api/releases/latest"] = reply(json.dumps(release).encode())
    https.replies["/api/releases/tags/1.2.3"] = reply(json.dumps(release).encode())
    https.replies["/api/releases?per_page=100"] = reply(json.dumps([release]).encode())
    https.replies[ASSET] = reply(redirect=f"{https.url}/blob/1?sig=once")
    https.replies["/blob/1?sig=once"] = reply(archive)
    return https


@pytest.fixture
def blob(github):
    return github.replies["/blob/1?sig=once"]
