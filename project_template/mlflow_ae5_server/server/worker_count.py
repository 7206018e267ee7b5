"""The number of server processes, by the limits of the container."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mlflow_ae5_server.common.errors import Configuration
from mlflow_ae5_server.common.text import amount

MOST = 4  # what plain `mlflow server` starts
_MIB = 1024 * 1024
_BASE = 400 * _MIB  # MLflow's modules, shared by all workers, and the first worker
_EACH = 200 * _MIB  # every further worker


@dataclass(frozen=True)
class Limits:
    """What the container may use."""

    cpus: float  # a quota may be a fraction
    memory: int | None  # bytes; None where nothing limits it


def read_limits(cgroup_root: Path = Path("/sys/fs/cgroup"), proc: Path = Path("/proc"), cpus: int = 0) -> Limits:
    """Limits of this container: cgroup v2, else v1, else this process's CPUs."""
    quota, memory = float(cpus or len(os.sched_getaffinity(0))), None
    for folder in _cgroup_folders(cgroup_root, proc):
        v2 = _read(folder / "cpu.max").partition(" ")[::2]
        v1 = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
        for time, period in (v2, v1):
            if time.isdigit() and period.isdigit() and int(period):
                quota = min(quota, int(time) / int(period))
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = _read(folder / name)
            if text.isdigit() and int(text) < 1 << 50:  # v1 writes "no limit" as a huge number
                memory = min(memory or int(text), int(text))
    return Limits(quota, memory)


def choose(requested: str, limits: Limits) -> tuple[int, str]:
    """Number of workers and the reason. requested: "auto" or a number."""
    if requested.strip().lower() != "auto":
        if not requested.strip().isdigit() or not 1 <= int(requested) <= 64:
            raise Configuration(f"MLFLOW_WORKERS is {requested!r}", "set it to auto or to a number from 1 to 64")
        count = int(requested)
        beyond = f", more than the {limits.cpus:g} CPUs of this container" if count > max(1.0, limits.cpus) else ""
        return count, f"as MLFLOW_WORKERS says{beyond}"
    by_cpu = max(1, int(limits.cpus))
    by_memory = MOST if limits.memory is None else max(1, 1 + (limits.memory - _BASE) // _EACH)
    count = min(MOST, by_cpu, by_memory)
    memory = "no memory limit" if limits.memory is None else f"{amount(limits.memory)} of memory"
    return count, f"for {limits.cpus:g} CPUs and {memory}, at most {MOST}"


def _cgroup_folders(root: Path, proc: Path) -> list[Path]:
    """The folders that can hold a limit: this process's groups and their parents."""
    folders = [root, root / "cpu", root / "cpu,cpuacct", root / "memory"]
    for line in _read(proc / "self" / "cgroup").splitlines():
        _number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        base = root / controllers if controllers and not controllers.startswith("name=") else root
        group = base
        for part in Path(path.lstrip("/")).parts:
            if part == "..":
                break
            group = group / part
            folders.append(group)
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
