"""What stdout is: a terminal of its width, a file of 120 columns, with or without blocks."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys

import pytest

from crore.cli.answer import Answer
from crore.cli.screen import screen

PLAN = ["plan", "llama3-8b", "--gpu", "h100-sxm", "--gpus", "8", "--tokens", "1T"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("columns", "shown"), [("80", 80), ("200", 120), ("20", 60)])
def test_a_terminal_is_as_wide_as_it_is_within_reason(monkeypatch, columns, shown):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert screen().columns == shown


def test_a_file_has_120_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert screen().columns == 120


@pytest.mark.parametrize(
    ("encoding", "blocks"),
    [("utf-8", True), ("ascii", False), ("latin-1", False), ("cp437", False)],
)
def test_block_characters_need_an_encoding_that_has_them(monkeypatch, encoding, blocks):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", Answer(stream))
    assert screen().blocks is blocks


@pytest.mark.parametrize(("encoding", "bar"), [("utf-8", "█"), ("ascii", "#")])
def test_on_a_terminal_of_80_columns_nothing_is_wider(encoding, bar):
    main, side = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", "PYTHONIOENCODING": encoding}
    process = subprocess.Popen(
        [sys.executable, "-m", "crore", *PLAN], stdout=side, stderr=subprocess.PIPE, env=environment
    )
    os.close(side)
    sent = b""
    try:
        while part := os.read(main, 65536):
            sent += part
    except OSError:  # the other side is closed
        pass
    assert process.wait(timeout=300) == 0
    os.close(main)
    assert process.stderr is not None
    process.stderr.close()
    lines = sent.decode(encoding).splitlines()
    assert lines[0].startswith("FITS")
    assert max(map(len, lines)) <= 80
    assert bar * 5 in sent.decode(encoding)
