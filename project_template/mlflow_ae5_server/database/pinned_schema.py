"""The schema of the pinned MLflow. Tests compare it with MLflow.

Importing MLflow to read it takes six times as long as a small backup, and running its migrations to create the tables
takes longer than the rest of a small restore.
"""

from __future__ import annotations

import re
from pathlib import Path

VERSION = "3.17.2"
REVISION = "dc11669786a5"


def script(dialect: str) -> str:
    """SQL that creates the tables without rows; empty for MySQL, whose servers differ too much."""
    file = Path(__file__).with_name(f"pinned_schema.{dialect}.sql")
    return file.read_text(encoding="utf-8") if file.is_file() else ""


TABLES = frozenset(re.findall(r'^CREATE TABLE "?(\w+)', script("sqlite"), re.MULTILINE))
