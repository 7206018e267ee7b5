"""Edit YAML that was loaded with its comments.

For the YAML library, a comment between two sections belongs to the last entry of the first one. So it is detached
before entries are added, moved or replaced, and attached to the new last entry.
"""

from __future__ import annotations

from typing import Any


def append(section: Any, key: str, value: Any) -> None:
    """Add an entry to a mapping."""
    trailing = detach(section)
    section[key] = value
    attach(section, trailing)


def append_item(items: Any, value: str) -> None:
    """Add an entry to a list."""
    trailing = detach(items)
    items.append(value)
    attach(items, trailing)


def replace(section: Any, key: str, value: Any) -> None:
    """Put another value into a mapping; comments inside of the old one go with it."""
    trailing = detach(section[key])
    section[key] = value
    attach(section[key], trailing)


def rearrange(items: Any, order: list[str]) -> None:
    """Replace a list's texts; entries that stay keep the comments on their lines."""
    trailing = detach(items)
    notes = {item: items.ca.items[index] for index, item in enumerate(items) if index in items.ca.items}
    items.ca.items.clear()
    del items[:]
    items.extend(order)
    items.ca.items.update({index: notes[item] for index, item in enumerate(order) if item in notes})
    attach(items, trailing)


def detach(node: Any) -> Any:
    """Remove and return the comment lines below the last entry of `node`."""
    holder, last = _last_leaf(node)
    slot = _slot(holder)
    tokens: Any = holder.ca.items.get(last) if last is not None else None
    token = tokens[slot] if tokens else None
    if token is None or isinstance(token, list):
        return None
    own, newline, following = token.value.partition("\n")
    if not following:
        return None
    detached = type(token)("\n" + following, token.start_mark, None)
    if own.strip():
        token.value = own + newline
    else:
        tokens[slot] = None
    return detached


def attach(node: Any, trailing: Any) -> None:
    """Put what `detach` gave below the last entry of `node`."""
    holder, last = _last_leaf(node)
    if trailing is None or last is None:
        return
    tokens: list[Any] = list(holder.ca.items.get(last) or [])
    tokens += [None] * ((4 if isinstance(holder, dict) else 2) - len(tokens))
    slot = _slot(holder)
    if tokens[slot] is None:
        tokens[slot] = trailing
    else:
        tokens[slot].value = tokens[slot].value.rstrip("\n") + trailing.value
    holder.ca.items[last] = tokens


def _slot(holder: Any) -> int:
    """Index of the comment after an entry, in ruamel.yaml's list of its comments."""
    return 2 if isinstance(holder, dict) else 0


def _last_leaf(node: Any) -> tuple[Any, Any]:
    """The innermost last container and its last key; that entry carries the comment."""
    holder, last = node, None
    while isinstance(node, dict | list) and node:
        holder = node
        last = next(reversed(node)) if isinstance(node, dict) else len(node) - 1
        node = node[last]
    return holder, last
