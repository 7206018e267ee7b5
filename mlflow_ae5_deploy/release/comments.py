"""Appending to YAML that was loaded with its comments.

A comment between two sections belongs, for the YAML library, to the last entry of the first one. Appended as the
library does it, new entries would stand behind that comment; here it is moved.
"""

from __future__ import annotations

from typing import Any


def append(section: Any, key: str, value: Any) -> None:
    holder, last = _last_leaf(section)
    section[key] = value
    _move_comment(holder, last, *_last_leaf(section))


def append_item(items: Any, value: str) -> None:
    holder, last = _last_leaf(items)
    items.append(value)
    _move_comment(holder, last, *_last_leaf(items))


def _last_leaf(node: Any) -> tuple[Any, Any]:
    """The innermost container at the end of `node`, and the key of its last entry; that entry carries the comment."""
    holder, last = node, None
    while isinstance(node, dict | list) and node:
        holder = node
        last = next(reversed(node)) if isinstance(node, dict) else len(node) - 1
        node = node[last]
    return holder, last


def _move_comment(holder: Any, last: Any, new_holder: Any, new_key: Any) -> None:
    """Let the lines after the entry `last` follow the new entry; a comment on its own line stays with it."""
    slot = 2 if isinstance(holder, dict) else 0
    tokens: Any = holder.ca.items.get(last) if last is not None else None
    token = tokens[slot] if tokens else None
    if token is None or isinstance(token, list):
        return
    own, newline, following = token.value.partition("\n")
    if not following:
        return
    new_slot = 2 if isinstance(new_holder, dict) else 0
    moved = type(token)("\n" + following, token.start_mark, None)
    fresh: list[Any] = [None] * (4 if isinstance(new_holder, dict) else 2)
    fresh[new_slot] = moved
    new_holder.ca.items[new_key] = fresh
    if own.strip():
        token.value = own + newline
    else:
        tokens[slot] = None
