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

# Values whose form or tag promises what they are not, or what Python reads and cannot write down again.
ODD_VALUES = [
    f"0x{'f' * 5_000}",
    f"-0x{'f' * 5_000}",
    f"0b{'1' * 20_000}",
    f"0o{'7' * 6_000}",
    f"!!int '0x{'f' * 5_000}'",
    f"!!int '0x {'f' * 5_000}'",
    "1" * 5_000,
    "1" * 5_000 + ".5",
    "1_" * 3_000 + "1",
    "1:" * 5_000 + "1",
    "1:" * 5_000 + "1.5",
    "1:" * 400 + "1.5",
    "1e999999",
    ".nan",
    "-.inf",
    "2026-13-45",
    "2026-01-01T25:00:00Z",
    "9999-12-31T23:59:59-14:00",
    "0001-01-01T00:00:00+14:00",
    "2001-12-14t21:59:43.10-99:59",
    "2026-11-29",
    "!!binary x",
    "!!binary aGk=",
    "!!set {a, b}",
    "!!omap [a: 1]",
    "!!pairs [a: 1]",
    "!!timestamp x",
    "!!float x",
    "!!int '_'",
    "!!float ':'",
    "!!bool x",
    "!!python/name:os.system x",
    "=",
    "<<",
    '"\\UFFFFFFFF"',
    "{[1]: 2}",
    "{? !!binary aGk= : 1}",
]
