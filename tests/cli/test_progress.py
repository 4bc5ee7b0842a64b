"""A long search shows on a terminal how far it is; a short one, or a pipe, shows nothing."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import pytest

from crore.cli import progress
from crore.cli.progress import watching

NOTHING = SimpleNamespace(ranked=[])
FOUND = SimpleNamespace(ranked=[SimpleNamespace(run_s=2 * 86_400.0)])


class Terminal(io.StringIO):
    """Says that a person is reading."""

    def isatty(self):
        return True


def on_a_terminal(monkeypatch, quiet_s):
    """Put a terminal where stderr was: inside a test, since pytest swaps stderr around it."""
    screen = Terminal()
    monkeypatch.setattr(progress, "QUIET_S", quiet_s)
    monkeypatch.setattr(sys, "stderr", screen)
    return screen


def test_nobody_watches_a_pipe():
    with watching() as watch:
        assert watch is None


def test_a_short_search_shows_nothing(monkeypatch):
    terminal = on_a_terminal(monkeypatch, 1e9)
    with watching() as watch:
        assert watch is not None
        watch(0.5, FOUND)
    assert terminal.getvalue() == ""


@pytest.mark.parametrize(
    ("found", "words"), [(NOTHING, "nothing fits yet"), (FOUND, "best so far 2 days")]
)
def test_a_long_search_shows_its_best_so_far(monkeypatch, found, words):
    terminal = on_a_terminal(monkeypatch, -1.0)
    with watching() as watch:
        assert watch is not None
        watch(0.5, found)
        watch(0.75, found)
    assert words in terminal.getvalue()


def test_the_cursor_is_back_when_a_search_is_interrupted(monkeypatch):
    terminal = on_a_terminal(monkeypatch, -1.0)
    monkeypatch.setenv("TERM", "xterm")

    def interrupted():
        with watching() as watch:
            assert watch is not None
            watch(0.5, FOUND)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    hidden, shown = "\x1b[?25l", "\x1b[?25h"
    assert terminal.getvalue().count(hidden) == terminal.getvalue().count(shown) > 0
