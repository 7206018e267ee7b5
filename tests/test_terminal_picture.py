"""README's picture and transcript show what the commands print now."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import terminal_picture as terminal

AGAIN = "record them again: python tools/terminal_picture.py"


@pytest.mark.slow
def test_the_picture_and_the_transcript_are_what_a_run_prints(tmp_path: Path) -> None:
    recorded = terminal.record(tmp_path, [*terminal.IN_PICTURE, *terminal.IN_TRANSCRIPT])
    first, rest = recorded[: len(terminal.IN_PICTURE)], recorded[len(terminal.IN_PICTURE) :]
    committed = terminal.PICTURE.read_text(encoding="utf-8")

    assert terminal.constant(terminal.text_in(committed)) == terminal.constant(
        terminal.text_in(terminal.picture(first))
    ), AGAIN
    assert terminal.constant(terminal.transcript_in_readme()) == terminal.constant(terminal.transcript(rest)), AGAIN


def test_the_picture_needs_no_other_host_and_shows_no_token() -> None:
    picture = terminal.PICTURE.read_text(encoding="utf-8")

    assert "url(http" not in picture
    assert "eyJ" not in terminal.text_in(picture) + terminal.transcript_in_readme()
