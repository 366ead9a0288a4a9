"""What functions write is shown on a terminal, and not obeyed by it."""

from __future__ import annotations

import io
import sys

import pytest

from ondol.cli.shape import foreign


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain 온돌\ttab\nline", "plain 온돌\ttab\nline"),
        ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
        ("\x1b]52;c;ZXZpbA==\x07", "\\x1b]52;c;ZXZpbA==\\x07"),
        ("\x1b[2J\x1b[1;1H", "\\x1b[2J\\x1b[1;1H"),
        ("paid 1000\rpaid 1", "paid 1000\\rpaid 1"),
        ("\x9b2J\x08\x7f", "\\x9b2J\\x08\\x7f"),
    ],
    ids=["text", "colour", "clipboard", "clearing", "writing over", "single bytes"],
)
def test_a_terminal_is_shown_what_it_would_obey(monkeypatch, text, shown):
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert foreign(text) == shown


def test_a_file_gets_what_was_written(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert foreign("\x1b[2J\r") == "\x1b[2J\r"


def test_it_is_asked_of_the_stream_that_is_written_to(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert foreign("\r", err=True) == "\\r"
