"""Small YAML documents that become huge, or endlessly deep, when they are read; and what the refusal says."""

from __future__ import annotations

BOMBS: dict[str, tuple[str, str]] = {
    "merge keys": (
        "b0: &b0 {k: v}\n" + "".join(f"b{n}: &b{n} {{<<: [{f'*b{n - 1}, ' * 50}]}}\n" for n in range(1, 5)),
        "more than 20,000 values",
    ),
    "aliases": (
        "b0: &b0 [x]\n" + "".join(f"b{n}: &b{n} [{f'*b{n - 1}, ' * 50}]\n" for n in range(1, 5)),
        "more than 20,000 values",
    ),
    "brackets": ("a: " + "[" * 60 + "]" * 60, "nested more than 50 levels"),
    "blocks": ("\n".join(" " * level + "a:" for level in range(60)), "nested more than 50 levels"),
    "aliases in depth": (
        "a0: &a0 " + "[" * 30 + "]" * 30 + "".join(f"\na{n}: &a{n} [*a{n - 1}]" for n in range(1, 30)),
        "nested more than 50 levels",
    ),
    "a circle": ("a: &a [*a]", "contains itself"),
}
