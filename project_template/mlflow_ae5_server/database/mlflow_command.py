"""Runs one of MLflow's own commands in this process: a URI is then an argument of a function, not of a process."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_ae5_server.common.redaction import scrub

if TYPE_CHECKING:
    import click


@dataclass(frozen=True)
class CommandResult:
    """`exit_code` is what the command line would have returned; `error` is one line, empty when all went well."""

    exit_code: int
    error: str = ""


def run(command: click.Command, arguments: list[str], name: str) -> CommandResult:
    """Run `command`; only KeyboardInterrupt and StoppedError leave here as exceptions."""
    import click

    try:
        command.main(arguments, prog_name=name, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return CommandResult(error.exit_code, _line(error))
    except click.Abort:
        raise KeyboardInterrupt from None
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        return CommandResult(code, f"{name} ended with {code}" if code else "")
    except Exception as error:
        traceback.print_exc()
        return CommandResult(1, _line(error))
    return CommandResult(0)


def _line(error: Exception) -> str:
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return scrub(f"{type(error).__name__}: {text}")[:300]
