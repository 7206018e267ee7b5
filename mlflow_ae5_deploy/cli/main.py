"""`main(argv)`: runs one verb and returns its exit code. The only place that turns errors into text and codes."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

import typer
from typer.exceptions import TyperException

from mlflow_ae5_deploy import __version__
from mlflow_ae5_deploy.cli import env, init, install, plan, runbook, sandbox, verify
from mlflow_ae5_deploy.errors import EXIT_BUG, EXIT_DONE, EXIT_INTERRUPTED, DeployError, Usage

PROGRAM = "mlflow-ae5-deploy"

app = typer.Typer(
    name=PROGRAM,
    help="Install and run an MLflow tracking server on Anaconda Enterprise 5 (AE5).",
    epilog="Every verb takes --help. Try everything first with --sandbox, a local platform.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """Options of the program itself."""


for module in (init, plan, install, verify, env, runbook):
    app.command(module.NAME, help=module.HELP, short_help=module.HELP)(module.command)
app.add_typer(sandbox.app, name="sandbox", help=sandbox.HELP)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    traceback = "--traceback" in arguments
    try:
        code = app(arguments, prog_name=PROGRAM, standalone_mode=False)
    except TyperException as error:
        text = error.format_message()
        if text.startswith("Usage:"):  # no verb given: the message is the help itself
            sys.stderr.write(f"{text}\n")
            return Usage.exit_code
        usage = Usage(text, remedy=f"See `{' '.join([PROGRAM, *arguments[:1]])} --help`.")
        _show(usage, json_mode="--json" in arguments, traceback=traceback)
        return usage.exit_code
    except DeployError as error:
        _show(error, json_mode="--json" in arguments, traceback=traceback)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        sys.stderr.write("\nInterrupted. What was done is in the journal; running it again goes on from there.\n")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BUG
    except Exception as error:  # the last line: a bug is told as one, without the secrets it may carry
        _bug(error, traceback=traceback)
        return EXIT_BUG
    return code if isinstance(code, int) else EXIT_DONE


def _show(error: DeployError, *, json_mode: bool, traceback: bool) -> None:
    from mlflow_ae5_deploy.report.console import Reporter
    from mlflow_ae5_deploy.report.summary import SCHEMA, error_data

    reporter = Reporter(json_mode=json_mode)
    if json_mode:
        reporter.data({"schema": SCHEMA, "outcome": "failed", "error": error_data(error)})
    reporter.error(error)
    if traceback:
        _traceback(error)


def _bug(error: Exception, *, traceback: bool) -> None:
    from mlflow_ae5_deploy.redaction import scrub

    sys.stderr.write(f"\nA bug in {PROGRAM}: {type(error).__name__}: {scrub(str(error))}\n")
    if traceback:
        _traceback(error)
    else:
        sys.stderr.write("  do this  Run it again with --traceback and report what it prints (secrets are masked).\n")


def _traceback(error: BaseException) -> None:
    import traceback

    from mlflow_ae5_deploy.redaction import scrub

    sys.stderr.write(scrub("".join(traceback.format_exception(error))))


def entrypoint() -> None:
    sys.exit(main())
