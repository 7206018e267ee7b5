"""A traceback of an install stays readable: few of our frames lie between `main` and a request."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType

import pytest

import mlflow_ae5_deploy

PACKAGE = str(Path(mlflow_ae5_deploy.__file__).parent)
MOST = 18
MOST_OF_LOCK = 23  # the lock of all machines is taken right before the first request, below the stage that sends it


class Deepest:
    """The stack of our functions at the deepest request, from `main` to the provider."""

    def __init__(self) -> None:
        self.stack: list[str] = []
        self.of_lock: list[str] = []

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        if event != "call" or frame.f_code.co_name != "send" or "/providers/" not in frame.f_code.co_filename:
            return
        stack, at = [], frame
        while at is not None:
            if at.f_code.co_filename.startswith(PACKAGE):
                stack.append(f"{at.f_code.co_filename.removeprefix(PACKAGE)}:{at.f_code.co_name}")
            at = at.f_back
        deepest = self.of_lock if any("/lease_keeper.py:" in name for name in stack) else self.stack
        if stack[1] != stack[0] and len(stack) > len(deepest):  # not a send that its subclass has called
            deepest[:] = stack[::-1]


@pytest.mark.parametrize("run", ["first", "unchanged"])
def test_a_request_of_an_install_is_few_frames_below_main(bench, capsys, run):
    deepest = Deepest()
    sys.setprofile(deepest)
    try:
        done = bench.install(capsys)
    finally:
        sys.setprofile(None)

    assert done.code == 0, done.err
    for stack, most in ((deepest.stack, MOST), (deepest.of_lock, MOST_OF_LOCK)):
        first = next(number for number, name in enumerate(stack) if name.startswith("/cli/main.py:main"))
        assert len(stack[first:]) <= most, "\n".join(stack)
