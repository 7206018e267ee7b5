"""`main(argv)`: run one verb and return its exit code. Only here errors become text and exit codes."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shlex
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import typer
from typer.exceptions import TyperException

from mlflow_ae5_deploy.cli.completion import COMPLETION_VARIABLE, MONITORING, complete_behind_equals, for_shell
from mlflow_ae5_deploy.cli.options import TARGET_NAMES, TargetOptions
from mlflow_ae5_deploy.cli.usage import usage_error
from mlflow_ae5_deploy.cli.verbs import DEFAULTS, VERBS, command_tree, resolved
from mlflow_ae5_deploy.common.errors import (
    AGAIN,
    EXIT_BUG,
    EXIT_DONE,
    EXIT_INTERRUPTED,
    FULL,
    Configuration,
    DeployError,
    Interrupted,
    Usage,
)
from mlflow_ae5_deploy.common.text import PROGRAM, Target, addressed, with_target
from mlflow_ae5_deploy.common.visible import visible, visible_lines

# Faults of this machine, not of this tool, wherever they are raised.
_NO_ROOM = (*FULL, errno.EFBIG, errno.EROFS)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    _open_closed_streams()
    line = _CommandLine.of(arguments)
    try:
        code = _run(arguments)
    except TyperException as error:
        return _failed(usage_error(error, PROGRAM, line.words), line)
    except DeployError as error:
        return _failed(error, line)
    except Interrupted as interrupt:
        return _interrupted(arguments, line, interrupt)
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted(arguments, line)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            return _bug(error, line)
        if error.filename is None:  # stdout itself is full
            _discard_stdout()
        return _failed(_no_room(error), line)
    except Exception as error:  # a bug, reported without the secrets it may carry
        return _bug(error, line)
    if code == EXIT_INTERRUPTED:  # how typer passes Ctrl-C on
        return _interrupted(arguments, line)
    return code if isinstance(code, int) else EXIT_DONE


@dataclass(frozen=True)
class _CommandLine:
    """The command line, as far as an error needs it. words: those that name the verb, such as sandbox and up."""

    words: Sequence[str]
    json_mode: bool
    traceback: bool
    verbose: bool = False
    target: Target = ()
    run_now: bool = False
    monitoring: str = ""  # the format, where a monitoring system reads the output

    @property
    def verb(self) -> str:
        """As JSON documents have it: `backup` for `backup create` too."""
        words = self.words
        return words[0] if len(words) == 2 and DEFAULTS.get(words[0]) == words[1] else " ".join(words)

    @classmethod
    def of(cls, arguments: Sequence[str]) -> _CommandLine:
        words, command = resolved(_tree_of(arguments), arguments)
        formats = [value for option, value in itertools.pairwise(arguments) if option in ("--format", "-f")]
        formats += [word.partition("=")[2] for word in arguments if word.startswith("--format=")]
        as_json = "json" in formats or "-fjson" in arguments
        monitoring = next((name for name in formats if words == ["status"] and name in MONITORING), "")
        json_mode = "--json" in arguments or (words == ["env"] and as_json)
        run_now = "--run-now" in arguments and "--dry-run" not in arguments  # the job of a dry run is deleted
        given = _readable(command, arguments[len(words) :]) if words else {}
        verbose, target = bool(given.get("verbose")), _target_in(given)
        return cls(words, json_mode, "--traceback" in arguments, verbose, target, run_now, monitoring)


def _readable(command: Any, arguments: Sequence[str]) -> Mapping[str, Any]:
    """The options of a command line with an error, as far as it can be read."""
    params: Mapping[str, Any] = command.make_context(
        None, list(arguments), resilient_parsing=True, ignore_unknown_options=True, allow_extra_args=True
    ).params
    return params


def _target_in(given: Mapping[str, Any]) -> Target:
    chosen: dict[str, Any] = {name: given.get(name) for name in TARGET_NAMES}
    return TargetOptions(sandbox=bool(given.get("sandbox")), **chosen).target


def _tree_of(arguments: Sequence[str]) -> Any:
    """The commands: with the options of the verb to run, or, for the shell's completion, of all."""
    if COMPLETION_VARIABLE in os.environ:
        return command_tree()
    return command_tree(arguments[0] if arguments and arguments[0] in VERBS else "")


def _run(arguments: list[str]) -> Any:
    """Run the verb. A closed stdout (`| head`) is no error, because the verb has done its work."""
    if for_shell(arguments, PROGRAM):
        return EXIT_DONE
    complete_behind_equals(os.environ)
    try:
        code = _tree_of(arguments)(arguments, prog_name=PROGRAM, standalone_mode=False)
    except SystemExit as end:  # typer's answer to a closed pipe
        _discard_stdout()
        return end.code
    try:
        sys.stdout.flush()  # here, where a full disk can still be reported
    except BrokenPipeError:
        _discard_stdout()
    return code


def _open_closed_streams() -> None:
    """A command such as `plan >&-` has no stdout at all."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123


def _check_failed(error: BaseException, text: str, line: _CommandLine) -> int:
    """A monitoring system gets its line and its code whatever happens; exit code 1 would mean a warning to it."""
    if line.monitoring == "prometheus":
        return _no_metrics(error, text, line)
    from mlflow_ae5_deploy.render.console import Reporter
    from mlflow_ae5_deploy.render.status import nagios_failure

    code, words = nagios_failure(error, text)
    with contextlib.suppress(OSError):
        Reporter(verbose=line.verbose).copied(words)  # a command in it is named, not recommended
    if line.traceback:
        _traceback(error)
    return code


def _no_metrics(error: BaseException, text: str, line: _CommandLine) -> int:
    """Metrics that say so. Exit code 0, so that they replace the earlier ones, unless the command line is wrong."""
    from datetime import UTC, datetime

    from mlflow_ae5_deploy.render.prometheus import failed_exposition

    with contextlib.suppress(OSError):
        sys.stdout.write(failed_exposition(visible(text), datetime.now(UTC), line.target))
    if line.traceback:
        _traceback(error)
    if isinstance(error, Usage | KeyboardInterrupt):
        sys.stderr.write(f"{_broken(visible(text))}\n")
        return error.exit_code if isinstance(error, Usage) else EXIT_INTERRUPTED
    return EXIT_DONE


def _failed(error: DeployError, line: _CommandLine) -> int:
    if line.monitoring:
        return _check_failed(error, error.what, line)
    from mlflow_ae5_deploy.render.console import Reporter
    from mlflow_ae5_deploy.render.install import error_data

    if line.json_mode:
        _document(line, "failed", error_data(error), error.document)
    Reporter(json_mode=line.json_mode, verbose=line.verbose, target=line.target).error(error)
    if line.traceback:
        _traceback(error)
    return error.exit_code


def _interrupted(arguments: list[str], line: _CommandLine, interrupt: Interrupted | None = None) -> int:
    """The terminal may be gone."""
    if line.monitoring:
        return _check_failed(interrupt or KeyboardInterrupt(), "The check was interrupted", line)
    what, ways_out = (interrupt.what, interrupt.ways_out) if interrupt is not None else ("", [AGAIN])
    if line.run_now:
        what = (
            "A started run continues on the platform: `logs --follow --run latest` shows it. "
            "Running this again starts another."
        )
        ways_out = []
    what = addressed(f"Interrupted. {what}".rstrip(), line.target)
    commands = [(_again(words, arguments, line), purpose) for words, purpose in ways_out]
    shown = [
        f"  {'or' if number else 'do this':<7}  {command}   # {purpose}\n"
        for number, (command, purpose) in enumerate(commands)
    ]
    with contextlib.suppress(OSError):
        sys.stderr.write("".join((f"\n{_broken(what)}\n", *shown)))
        if line.json_mode:
            remedy = commands[0][0] if commands else ""
            error = {"kind": "Interrupted", "what": what, "remedy": remedy, "exit_code": EXIT_INTERRUPTED}
            _document(line, "interrupted", error)
    return EXIT_INTERRUPTED


def _again(words: str, arguments: Sequence[str], line: _CommandLine) -> str:
    """The command with these words and the target of this one; without words, this command."""
    from mlflow_ae5_deploy.cli.next_steps import program
    from mlflow_ae5_deploy.common.redaction import scrub

    return scrub(f"{program()} {with_target(words, line.target) if words else shlex.join(arguments)}")


def _broken(text: str) -> str:
    """Wrap for a terminal. Without rich, because Ctrl-C may come while that is imported."""
    if not sys.stderr.isatty():
        return text
    width = max(shutil.get_terminal_size().columns, 20)
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)


def _no_room(error: OSError) -> Configuration:
    return Configuration(
        f"Something could not be written: {error.strerror}.",
        where=str(error.filename or "standard output"),
        remedy="Free disk space, or use another disk: set TMPDIR for temporary files, MLFLOW_AE5_DEPLOY_STATE for the "
        "state.",
    )


def _bug(error: Exception, line: _CommandLine) -> int:
    from mlflow_ae5_deploy.common.redaction import scrub

    what = f"A bug in {PROGRAM}: {type(error).__name__}: {visible(scrub(str(error)))}"
    if line.monitoring:
        return _check_failed(error, what, line)
    sys.stderr.write(f"\n{_broken(what)}\n")
    if line.json_mode:
        _document(line, "failed", {"kind": "Bug", "what": what, "exit_code": EXIT_BUG})
    if line.traceback:
        _traceback(error)
    else:
        sys.stderr.write("  do this  Run it again with --traceback and report what it prints (secrets are masked).\n")
    return EXIT_BUG


def _document(line: _CommandLine, outcome: str, error: dict[str, Any], more: Mapping[str, Any] | None = None) -> None:
    """Write the JSON document of a run that ended before it wrote its own."""
    from mlflow_ae5_deploy.render.console import Reporter

    Reporter(json_mode=True, target=line.target).document(line.verb, outcome, **(more or {}), error=error)


def _discard_stdout() -> None:
    """Keep the interpreter from writing to a closed stdout once more at its end."""
    from mlflow_ae5_deploy.render.console import discard

    discard(sys.stdout)


def _traceback(error: BaseException) -> None:
    import traceback

    from mlflow_ae5_deploy.common.redaction import scrub

    sys.stderr.write(visible_lines(scrub("".join(traceback.format_exception(error)))))
