"""Text from outside, made safe for a terminal.

Names, errors and logs of a platform may hold whatever others have put into them: escape sequences that move the cursor
or change the title, carriage returns that overwrite a line, characters that reverse or hide what follows.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

# Controls, format characters (bidi, zero-width), surrogates, separators, what is private or not yet assigned.
_UNSAFE = ("Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn")
# Of other categories, but shown as nothing: the rest of Unicode's Default_Ignorable_Code_Point, and the empty Braille.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_SHORT = {"\n": "\\n", "\r": "\\r", "\x1b": "\\x1b"}


_UNUSUAL = re.compile(r"[^\t\x20-\x7e]")  # the others are safe, and nearly all that there are


def _is_safe(character: str) -> bool:
    return unicodedata.category(character) not in _UNSAFE and not _INVISIBLE.match(character)


def visible(text: str) -> str:
    """One line, with the characters escaped that a terminal would interpret or hide."""
    return _UNUSUAL.sub(lambda found: found[0] if _is_safe(found[0]) else _escaped(found[0]), text)


def visible_lines(text: str) -> str:
    """The same for text of several lines."""
    return "\n".join(visible(line.removesuffix("\r")) for line in text.split("\n"))


def json_text(value: Any, *, indent: int | None = None) -> str:
    """JSON of the exact value, with the same characters escaped as JSON has it."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return _UNUSUAL.sub(lambda found: found[0] if found[0] == "\n" or _is_safe(found[0]) else _in_json(found[0]), text)


def _in_json(character: str) -> str:
    return json.dumps(character)[1:-1].replace("\x7f", "\\u007f")


def _escaped(character: str) -> str:
    return _SHORT.get(character) or character.encode("unicode_escape", "backslashreplace").decode()
