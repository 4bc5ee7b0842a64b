"""The documentation runs: every `crore` command in README.md and docs/guide is executed.

A ```console block holds `$ command` lines, each followed by what it prints; a ```sh block holds
commands alone. Each document runs from top to bottom in one empty folder. Shown output must match,
where a line `…` stands for any lines. An HTML comment just above a block says what is special:

    <!-- exit 1 -->           the commands leave with this code
    <!-- numbers vary -->     digits are not compared (a result that calibration may move)
    <!-- drill -->            takes minutes: executed under make drills alone
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs" / "guide").glob("*.md"))]
LONG = ("train.md", "islands.md", "tune.md", "export.md")
"""What trains for minutes: all their commands run under make drills."""
BLOCK = re.compile(
    r"(?:^<!--(?P<note>[^\n]*)-->\n)?^```(?P<kind>console|sh)\n(?P<body>.*?)^```$", re.M | re.S
)
EXECUTED = ("crore ", "cat ", "echo ")
ELISION = "…"


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One command of a document and what the document promises about it."""

    line: int
    command: str
    shown: list[str]
    exit_code: int
    numbers_vary: bool
    minutes: bool
    """Whether a busy machine may take minutes for what is shown in seconds."""
    drill: bool


def steps(document: Path) -> list[Step]:
    """Return the commands of a document, in order."""
    text = document.read_text(encoding="utf-8")
    found = []
    for block in BLOCK.finditer(text):
        note = block["note"] or ""
        code = re.search(r"exit (\d+)", note)
        first = text.count("\n", 0, block.start("body")) + 1
        body = block["body"].replace("\\\n", "")
        for offset, command, shown in split(body, block["kind"]):
            found.append(
                Step(
                    line=first + offset,
                    command=command,
                    shown=shown,
                    exit_code=int(code[1]) if code else 0,
                    numbers_vary="numbers vary" in note,
                    minutes="or minutes" in note,
                    drill="drill" in note,
                )
            )
    return found


def split(body: str, kind: str) -> list[tuple[int, str, list[str]]]:
    """Return (line, command, shown output) for each command of a block."""
    parts: list[tuple[int, str, list[str]]] = []
    for offset, line in enumerate(body.splitlines()):
        if kind == "sh":
            if line.strip() and not line.startswith("#"):
                parts.append((offset, line.partition("  #")[0].strip(), []))
        elif line.startswith("$ "):
            parts.append((offset, line[2:], []))
        elif parts:
            parts[-1][2].append(line)
    return parts


def matches(
    shown: list[str], printed: list[str], *, numbers_vary: bool, minutes: bool = False
) -> bool:
    """Tell whether the printed lines are the shown ones, `…` lines standing for any."""

    def plain(line: str) -> str:
        line = " ".join(line.split())
        line = re.sub(r"\d[\d,.]*", "#", line) if numbers_vary else line
        return line.replace("# min", "# s") if minutes else line

    pattern = "".join(
        r"(?:.*\n)*?" if line.strip() == ELISION else re.escape(plain(line)) + r"\n"
        for line in shown
    )
    return re.fullmatch(pattern, "".join(plain(line) + "\n" for line in printed)) is not None


def execute(step: Step, folder: Path) -> tuple[int, list[str]]:
    """Run a command as its reader would, with `crore` meaning this very checkout."""
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
    function = f'crore() {{ "{sys.executable}" -m crore "$@"; }}\n'
    done = subprocess.run(
        ["bash", "-c", function + step.command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env=environment,
        check=False,
    )
    return done.returncode, done.stdout.rstrip("\n").splitlines()


def cases() -> list[object]:
    """Return (document, whether its long commands are executed too), those under make drills."""
    found: list[object] = []
    for document in DOCUMENTS:
        long = document.name in LONG or any(step.drill for step in steps(document))
        if document.name not in LONG:
            found.append(pytest.param(document, False, id=document.name))
        if long:
            name = f"{document.name}, whole"
            found.append(pytest.param(document, True, id=name, marks=pytest.mark.drill))
    return found


@pytest.mark.parametrize(("document", "whole"), cases())
def test_every_command_of_the_documentation_runs(document, whole, tmp_path):
    # What a reader of a clone sees at this path; all else runs in an empty folder.
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "published").symlink_to(ROOT / "tests" / "published")
    for step in steps(document):
        where = f"{document.name}:{step.line}: {step.command}"
        if not step.command.startswith(EXECUTED):
            assert_known(step.command, where)
            continue
        if step.drill and not whole:
            continue
        code, printed = execute(step, tmp_path)
        assert code == step.exit_code, f"{where}\n" + "\n".join(printed)
        if step.shown:
            same = matches(
                step.shown, printed, numbers_vary=step.numbers_vary, minutes=step.minutes
            )
            assert same, f"{where} prints\n" + "\n".join(printed)


def assert_known(command: str, where: str) -> None:
    """Check what is not executed here: a make target must exist, the rest must be well known."""
    words = command.split()
    assert words[0] in {"git", "make", "cd", "pip", "python3"}, f"{where} is executed by no test"
    if words[0] == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        targets = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
        for target in targets:
            if target != "crore":  # `make -C crore run`
                assert f"\n{target}:" in makefile, f"{where}: no make target {target}"


def test_the_documents_have_commands_to_run():
    assert all(steps(document) for document in DOCUMENTS)


def test_shown_output_is_compared():
    shown = ["GPUs  8", ELISION, "last 3.5 s"]
    assert matches(shown, ["GPUs 8", "x", "y", "last 3.5 s"], numbers_vary=False)
    assert matches(shown, ["GPUs 8", "last 3.5 s"], numbers_vary=False)
    assert not matches(shown, ["GPUs 8", "last 3.6 s"], numbers_vary=False)
    assert matches(shown, ["GPUs 8", "last 3.6 s"], numbers_vary=True)
    assert not matches(shown, ["GPUs 8", "last 3.6 min"], numbers_vary=True)
    assert matches(shown, ["GPUs 8", "last 3.6 min"], numbers_vary=True, minutes=True)
