"""Runs one command and never outlives the sandbox.

Started as a process of its own (standard library only, isolated mode) and leader of its session. The sandbox holds
the other end of its standard input: when that closes, because the sandbox asks for a stop or is gone, killed
however hard, the command gets the stop signal, some grace, and then everything it started is killed.

    launcher.py grace=SECONDS [signal=NAME] [main-only=1] [uid=N gid=N] [secrets=FOLDER] -- COMMAND...

With secrets the command gets a mount namespace of its own, in which that folder is also where AE5 has the secrets.
It imports little, because it is started for each command and waits beside it.

A deployment becomes a process by deployments.py -> base.py -> processes.py -> launcher.py.

Exit status: the command's, or 128 + the signal that ended it; 125 where the folder cannot be mounted.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import time

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_MS_BIND, _MS_REC, _MS_PRIVATE = 4096, 16384, 1 << 18
_SECRETS = "/var/run/secrets/user_credentials"  # where AE5 has them
_KILL_SECONDS = 2.0  # less than what the sandbox waits for beyond the grace


def main() -> int:
    words = sys.argv[1:]
    end = words.index("--")
    options, command = dict(word.split("=", 1) for word in words[:end]), words[end + 1 :]
    if "secrets" in options:
        try:
            _mount_secrets(options["secrets"])
        except (OSError, AttributeError) as error:  # AttributeError: not Linux
            print(f"[sandbox] {_SECRETS} cannot be mounted: {error}", file=sys.stderr)
            return 125
    _adopt_orphans()
    wake = _signal_pipe()
    child = _start(command, options)
    status = _wait(child, wake)
    if status is None:
        number = signal.Signals[options.get("signal", "SIGTERM")]
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number) if "main-only" in options else os.killpg(0, number)
        status = _wait_all(child, wake, time.monotonic() + float(options["grace"]))
    _kill_the_rest(child)
    return 137 if status is None else status


def _start(command: list[str], options: dict[str, str]) -> int:
    """Start the command without standard input, as the user of `uid` and `gid` if they are given; returns its pid."""
    child = os.fork()
    if child:
        return child
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # ignored by Python, and what is ignored is inherited
            signal.signal(number, signal.SIG_DFL)
        if "uid" in options:
            os.setgroups([])
            os.setgid(int(options["gid"]))
            os.setuid(int(options["uid"]))
        _die_with_parent()  # last: another user clears it
        os.execvp(command[0], command)  # noqa: S606
    except OSError as error:
        print(f"[sandbox] {command[0]}: {error}", file=sys.stderr, flush=True)
    os._exit(127)


def _mount_secrets(folder: str) -> None:
    """Mount `folder` at _SECRETS, for this process and its children only."""
    here, user, group = os.getcwd(), os.getuid(), os.getgid()  # noqa: PTH109
    try:
        _checked(ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS))
    except PermissionError:  # not as root: with a user namespace, in which everybody is who they were
        _checked(ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS | _CLONE_NEWUSER))
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:  # noqa: PTH123
                file.write(text)
    _mount("none", "/", "", _MS_REC | _MS_PRIVATE)
    target = os.path.realpath(_SECRETS)
    if not os.path.isdir(target):  # noqa: PTH112
        _make_room_for(target)
    _mount(folder, target, "", _MS_BIND | _MS_REC)
    os.chdir(here)  # by its name, where it may now be reached by another mount


def _make_room_for(target: str) -> None:
    """Lay a writable copy, made of mounts, over the folder that has to hold `target`."""
    above = os.path.dirname(target)  # noqa: PTH120
    while not os.path.isdir(above):  # noqa: PTH112
        above = os.path.dirname(above)  # noqa: PTH120
    if above == "/":
        raise FileNotFoundError(target)
    covered = os.open(above, os.O_PATH | os.O_DIRECTORY)
    mode = os.fstat(covered).st_mode & 0o7777
    with os.scandir(above) as listing:
        entries = [(entry.name, entry.is_symlink(), entry.is_dir(follow_symlinks=False)) for entry in listing]
    _mount("tmpfs", above, "tmpfs", 0, f"mode={mode:o}")
    for name, is_link, is_folder in entries:
        source, shown = f"/proc/self/fd/{covered}/{name}", f"{above}/{name}"
        with contextlib.suppress(FileNotFoundError):  # deleted since it was listed
            if is_link:
                os.symlink(os.readlink(source), shown)  # noqa: PTH115, PTH211
                continue
            os.mkdir(shown) if is_folder else os.close(os.open(shown, os.O_CREAT))  # noqa: PTH102
            _mount(source, shown, "", _MS_BIND | _MS_REC)
    os.close(covered)
    os.makedirs(target, 0o755)  # noqa: PTH103


def _mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    arguments = (os.fsencode(source), os.fsencode(target), kind.encode() or None, flags, data.encode() or None)
    mount = ctypes.CDLL(None, use_errno=True).mount
    mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
    _checked(mount(*arguments), target)


def _checked(result: int, path: str = "") -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path or None)


def _adopt_orphans() -> None:
    """On Linux, adopt processes whose parent ended, so that none gets away."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _die_with_parent() -> None:
    """On Linux, the command is killed when this launcher is."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _signal_pipe() -> int:
    """A descriptor that becomes readable on a signal.

    Handlers, unlike SIG_IGN, are not inherited.
    """
    readable, writable = os.pipe()
    os.set_blocking(readable, False)
    os.set_blocking(writable, False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    return readable


def _wait(child: int, wake: int) -> int | None:
    """The child's exit status, or None on a request to stop."""
    while True:
        status = _reap(child)
        if status is not None:
            return status
        ready, _, _ = select.select([0, wake], [], [])
        _drain(wake)
        if 0 in ready and not os.read(0, 64):
            return None


def _wait_all(child: int, wake: int, deadline: float) -> int | None:
    """Wait until the child and its processes have ended, or for the deadline."""
    status: int | None = None
    while True:
        found = _reap(child)
        status = found if found is not None else status
        left = deadline - time.monotonic()
        if left <= 0 or (status is not None and _is_alone()):
            return status
        select.select([wake], [], [], min(left, 0.1))
        _drain(wake)


def _drain(wake: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while os.read(wake, 512):
            pass


def _reap(child: int) -> int | None:
    status: int | None = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, raw = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == child:
                code = os.waitstatus_to_exitcode(raw)
                status = code if code >= 0 else 128 - code
    return status


def _is_alone() -> bool:
    """Whether nothing that was started is left: on Linux it would be a child, or below one; elsewhere nobody knows."""
    if sys.platform != "linux":
        return True
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


def _others() -> list[int]:
    """Our group's and adopted processes that still run, on Linux.

    Zombies count: a process whose first thread has ended is listed as one while its other threads still run.
    """
    me, found = os.getpid(), []
    for name in os.listdir("/proc"):  # noqa: PTH208
        if not name.isdigit() or int(name) == me:
            continue
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
                _, parent, group = file.read().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if me in (int(group), int(parent)):
            found.append(int(name))
    return found


def _kill_the_rest(child: int) -> None:
    """Kill and collect all remaining processes; give up after some seconds."""
    if sys.platform != "linux":
        if _reap(child) is None:
            os.killpg(0, signal.SIGKILL)
        return
    deadline = time.monotonic() + _KILL_SECONDS
    while time.monotonic() < deadline:
        _reap(child)
        if _is_alone():
            return
        for pid in _others():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


if __name__ == "__main__":
    sys.exit(main())
