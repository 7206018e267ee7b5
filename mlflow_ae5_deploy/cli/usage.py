"""Errors of the command line, with the nearest correct word."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from typer.exceptions import TyperException

from mlflow_ae5_deploy.common.errors import Usage

# Options that other tools have for what is an argument here.
_NAMES_OF_ARGUMENTS = frozenset({"--output", "--out", "--file", "--folder", "--dir", "--path", "--cron", "-o"})
_EXTRA = re.compile(r"Got unexpected extra argument\(s\) \((.*)\)", re.DOTALL)


def usage_error(error: TyperException, program: str, words: Sequence[str]) -> Usage:
    """words: those of the command line that name the verb."""
    verb = " ".join(words)
    page = f"`{' '.join([program, *words, '--help'])}`"
    what, remedy = _problem(error, verb)
    return Usage(what, remedy=" ".join(filter(None, (remedy, f"See {page}."))))


def unknown_verb(verb: str, word: str, verbs: Collection[str], inner: Iterable[str], page: str) -> Usage:
    """verb: the one that has `verbs`; empty: the program. inner: the verbs of `verbs`, such as `backup list`."""
    whose = f"`{verb}` has no verb" if verb else "There is no verb"
    lead = f"{verb} ".lstrip()
    exists = word.lower() in verbs
    suggested = (not exists and _verbs_with(word, [*verbs, *inner], lead)) or did_you_mean(word, verbs, lead)
    return Usage(f"{whose} {word!r}.", remedy=" ".join(filter(None, (suggested, f"See `{page}`."))))


def _verbs_with(word: str, verbs: Iterable[str], lead: str) -> str:
    """A question with the verbs that have the word in their names: `schedule-gc`, `release export`."""
    found = [name for name in verbs if word.lower() in re.split("[ -]", name)[1:]]
    return f"Did you mean {' or '.join(f'`{lead}{name}`' for name in found)}?" if found else ""


def checked_choice(value: str, option: str, values: Sequence[str]) -> str:
    """Raises Usage for another value than these."""
    if value not in values:
        taken = " or ".join(filter(None, (", ".join(values[:-1]), values[-1])))
        remedy = did_you_mean(value, values) or f"Use one of these values, such as `{option} {values[0]}`."
        raise Usage(f"{option} takes {taken}, not {value!r}.", where=option, remedy=remedy)
    return value


def did_you_mean(word: str, words: Iterable[str], lead: str = "") -> str:
    """A question, or nothing if no word is near. lead: text before the word."""
    names = {name.lstrip("-"): name for name in words}
    given = word.lower().lstrip("-")
    longer = [name for name in names if len(given) > 1 and name.startswith(given)]
    near = longer if len(longer) == 1 else difflib.get_close_matches(given, names, n=1)
    return f"Did you mean `{lead}{names[near[0]]}`?" if near else ""


def _problem(error: TyperException, verb: str) -> tuple[str, str]:
    """Problem and remedy. Typer's own error classes are not public, but their fields are."""
    message, context = error.format_message(), getattr(error, "ctx", None)
    siblings = getattr(context.parent.command, "commands", {}) if context is not None and context.parent else {}
    option, param = getattr(error, "option_name", ""), getattr(error, "param", None)
    if message.startswith("No such option"):
        what, remedy = _unknown_option(option, _options_of(context), verb, siblings)
        return what, remedy or (_position_of(option, context) if context is not None else "")
    if option:
        return f"{option} {'needs a value' if 'requires' in message else 'takes no value'}.", ""
    if param is not None and param.param_type_name == "option":
        return _wrong_number(param, error), ""
    if extra := _EXTRA.match(message):
        first = extra[1].split(" ")[0]
        if first in siblings and context is not None:
            return f"{first!r} must come before the options.", f"Run `{context.parent.command_path} {first}`."
        cron = _cron_param(context)
        if cron is not None and cron.param_type_name == "option":
            return f"Unexpected argument: {extra[1]}.", f"Give a schedule as an option: {cron.opts[0]} '30 2 * * *'."
        if cron is not None:
            return f"Unexpected argument: {extra[1]}.", "Put the schedule in quotes, such as '30 2 * * *'."
        if context is not None and "--snapshot" in _options_of(context):
            return f"Unexpected argument: {extra[1]}.", name_a_snapshot(context.command_path, first)
        return f"Unexpected argument: {extra[1]}.", did_you_mean(first, siblings)
    return message, ""


def _options_of(context: Any) -> list[str]:
    params = context.command.params if context is not None else ()
    return [name for param in params for name in param.opts if name.startswith("--")]


def _cron_param(context: Any) -> Any:
    params = context.command.params if context is not None else ()
    return next((param for param in params if param.metavar == "CRON"), None)


def _unknown_option(option: str, options: Iterable[str], verb: str, siblings: dict[str, Any]) -> tuple[str, str]:
    owners = [
        f"`{verb.split(' ')[0]} {name}`"
        for name, command in siblings.items()
        if any(option in param.opts for param in command.params)
    ]
    whose = f"`{verb}`" if verb else "The program"
    if owners and verb:
        return f"{option} is an option of {' and '.join(owners)}, not of {whose}.", ""
    return f"{whose} has no option {option}.", did_you_mean(option, options)


def name_a_snapshot(verb: str, word: str) -> str:
    """For a word behind a verb that has --snapshot."""
    return f"To name a snapshot: `{verb} --snapshot {shlex.quote(word)}`."


def _position_of(option: str, context: Any) -> str:
    """Where an option belongs that this verb does not have, as far as that is known."""
    command, verb = context.command, context.command_path
    verbs = getattr(command, "commands", {})
    if verbs and (context.parent is None or any(option in p.opts for own in verbs.values() for p in own.params)):
        return f"Options come after the verb: `{verb} VERB {option}`."
    if len(verbs) == 1:
        ((name, command),) = verbs.items()
        verb = f"{verb} {name}"
    arguments = [param.metavar for param in command.params if param.param_type_name == "argument"]
    if option in _NAMES_OF_ARGUMENTS and arguments:
        return f"It is an argument: `{verb} {arguments[0]}`."
    return ""


def _wrong_number(param: Any, error: TyperException) -> str:
    """Of an option that takes a number, as all that typer itself checks."""
    number = "a whole number" if isinstance(param.default, int) or param.metavar == "N" else "a number"
    least = least_value(param)
    cause: list[Any] = getattr(error.__cause__, "errors", list)()  # pydantic's; older versions of typer have none
    given = f", not {str(cause[0]['input'])[:80]!r}" if cause else ""
    return f"{param.opts[0]} takes {number}{'' if least is None else f' of at least {least:g}'}{given}."


def least_value(param: Any) -> float | None:
    """Of an option that takes a number. Older versions of typer keep it with the type."""
    holder = param if hasattr(param, "min") else getattr(param, "type", None)
    least: float | None = getattr(holder, "min", None)
    return least
