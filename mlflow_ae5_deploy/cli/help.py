"""Help pages, and groups of verbs: typer's classes with a layout of their own.

A page has the options of its verb first, then those that verbs share, then examples.
"""

from __future__ import annotations

import inspect
import os
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup

from mlflow_ae5_deploy.cli.usage import least_value, name_a_snapshot, unknown_verb
from mlflow_ae5_deploy.common.errors import Usage
from mlflow_ae5_deploy.common.text import PROGRAM

if TYPE_CHECKING:
    Rows = list[tuple[str, str]]

COMMON = "Common options"  # `rich_help_panel` of an option that verbs share
# Options that typer adds, with our texts.
_ADDED = {
    "help": ("-h, --help", "Show this page."),
    "install_completion": ("--install-completion [SHELL]", "Install completion for bash, zsh or fish."),
    "show_completion": ("--show-completion [SHELL]", "Print the completion script instead."),
}
_NARROWEST, _WIDEST = 60, 100
_LEFT = 28  # the widest left column
_INDENT = "  "


def epilog(examples: Mapping[str, str]) -> str:
    """examples: command line without the program -> its purpose."""
    return "\n".join(f"# {meaning}\n{PROGRAM} {command}" for command, meaning in examples.items())


class VerbPage(TyperCommand):
    """A verb."""

    def get_help(self, ctx: Any) -> str:
        return _page(self, ctx, "[OPTIONS]")


class VerbGroup(TyperGroup):
    """A verb with verbs of its own."""

    default = ""
    """The one that is meant where none is named."""
    inner: Sequence[str] = ()
    """The verbs of its verbs, with two words: `backup list`."""

    def get_help(self, ctx: Any) -> str:
        return _page(self, ctx, "[VERB] [OPTIONS]" if self.default else "VERB [OPTIONS]")

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing and not args and not self.default:
            typer.echo(self.get_help(ctx), err=True)
            raise typer.Exit(Usage.exit_code)
        if args:
            implied = args[0].startswith("-") and args[0] not in ctx.help_option_names
        else:
            implied = not ctx.resilient_parsing  # completion offers the verbs there
        return super().parse_args(ctx, [self.default, *args] if self.default and implied else args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.commands and not ctx.resilient_parsing:
            implied = self.commands.get(self.default)
            if implied is not None and any("--snapshot" in param.opts for param in implied.params):
                raise Usage(f"Unexpected argument: {args[0]}.", remedy=name_a_snapshot(ctx.command_path, args[0]))
            verb = ctx.command_path.partition(" ")[2]
            raise unknown_verb(verb, args[0], self.commands, self.inner, f"{ctx.command_path} --help")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        if self.default and incomplete.startswith("-"):
            return self.commands[self.default].shell_complete(ctx, incomplete)
        return super().shell_complete(ctx, incomplete)


def _page(command: Any, context: Any, usage: str) -> str:
    width = max(min(shutil.get_terminal_size().columns, _WIDEST), _NARROWEST)
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    words = " ".join([context.command_path, *(f"[{param.metavar}]" for param in arguments), usage])
    blocks = [f"Usage: {words}", _paragraphs(command.help or "", width)]
    for sections in (_verbs(command), _options(command, context)):
        widths = [len(first) for rows in sections.values() for first, _ in rows]
        left = max((length for length in widths if length <= _LEFT), default=_LEFT)
        blocks += [_section(heading, _columns(rows, left, width)) for heading, rows in sections.items()]
    if context.parent is None:
        blocks.append(_section("Marks", _marks(width)))
    if command.epilog:
        lines = inspect.cleandoc(command.epilog).splitlines()
        blocks.append(_section("Examples", [_INDENT + line for line in lines]))
    return "\n\n".join(blocks)


def _verbs(command: Any) -> dict[str, Rows]:
    """Heading -> rows."""
    found: dict[str, Rows] = {}
    for name, verb in getattr(command, "commands", {}).items():
        found.setdefault(verb.rich_help_panel or "Verbs", []).append((name, verb.get_short_help_str()))
    return found


def _options(command: Any, context: Any) -> dict[str, Rows]:
    """Arguments first, shared options last."""
    params = [param for param in command.get_params(context) if not param.hidden]
    common = any(param.rich_help_panel == COMMON for param in params)
    options: dict[str, Rows] = {"Arguments": [], "Options": [], COMMON: []}
    for param in params:
        if param.param_type_name == "argument":
            heading = "Arguments"
        else:
            heading = COMMON if common and param.name == "help" else param.rich_help_panel or "Options"
        options[heading].append((signature(param), explained(param)))
    return {heading: rows for heading, rows in options.items() if rows}


def signature(param: Any) -> str:
    """`-c, --config PATH` of an option, or the name of an argument."""
    if param.name in _ADDED:
        return _ADDED[param.name][0]
    if param.param_type_name == "argument":
        return str(param.metavar)
    names = ", ".join(sorted(param.opts, key=len))
    return names if param.is_flag or param.count else f"{names} {param.metavar}"


def explained(param: Any) -> str:
    """With its default, or the least value that it takes."""
    if param.name in _ADDED:
        return _ADDED[param.name][1]
    default = f"{param.default:g}" if isinstance(param.default, float) else param.default
    if param.default and param.show_default:
        return f"{param.help} (default {default})"
    least = least_value(param)
    return f"{param.help} (at least {least:g})" if least else str(param.help)


# layout -----------------------------------------------------------------------------------------------------------


def _section(heading: str, lines: Sequence[str]) -> str:
    return "\n".join([_bold(f"{heading}:"), *lines])


def _bold(text: str) -> str:
    plain = not sys.stdout.isatty() or "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    return text if plain else typer.style(text, bold=True)


def _paragraphs(text: str, width: int) -> str:
    return "\n\n".join(
        "\n".join(_wrapped(" ".join(paragraph.split()), width, _INDENT, _INDENT))
        for paragraph in inspect.cleandoc(text).split("\n\n")
    )


def _marks(width: int) -> list[str]:
    from mlflow_ae5_deploy.render.format import Mark, ascii_only, in_ascii

    meanings = {mark: name.lower() for name, mark in Mark.__members__.items()} | {Mark.OK: "ok or unchanged"}
    text = ", ".join(f"{mark.sign} {meaning}".replace(" ", "\xa0") for mark, meaning in meanings.items())
    lines = [line.replace("\xa0", " ") for line in _wrapped(text, width, _INDENT, _INDENT)]
    return [in_ascii(line) for line in lines] if ascii_only(sys.stdout.encoding or "utf-8", os.environ) else lines


def _columns(rows: Rows, left: int, width: int) -> list[str]:
    rest = " " * (left + 2 * len(_INDENT))
    lines = []
    for first, second in rows:
        lead = f"{_INDENT}{first:<{left}}{_INDENT}"
        if len(first) > left:
            lines.append(_INDENT + first)
            lead = rest
        lines += _wrapped(second, width, lead, rest)
    return lines


def _wrapped(text: str, width: int, lead: str, rest: str) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=lead, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
