"""The default corpus: documentation and source of the standard library of the running Python.

It needs no download and is the same for the same Python. Two parts: `python-docs` (language
topics, and one page per module made of its docstrings) and `python-code` (the modules as written).
"""

from __future__ import annotations

import ast
import importlib
import os
import string
import sysconfig
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from crore.errors import InputError

LICENCE: Final = "PSF-2.0"
_TOPICS: Final = "pydoc_data/topics.py"
_SKIPPED: Final = frozenset(
    ("site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__", "lib-dynload",
     "encodings", "pydoc_data", "lib2to3", "idlelib", "turtledemo", "distutils", "msilib",
     "ensurepip")
)  # fmt: skip
"""Folders of tests, tables, vendored wheels, and what later Pythons dropped."""
_LEAST_LETTERS: Final = 0.75
"""Share of letters and blanks in a file that reads well; below it stand tables."""
_MOST_DIGITS: Final = 0.05
"""Share of digits in a file that reads well."""
_LETTERS: Final = string.ascii_letters.encode() + b" \n" + bytes(range(0x80, 0x100))
"""Bytes of letters and blanks; past ASCII nearly all are letters."""

_Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class Document(NamedTuple):
    """One text, and what decides on which side of the validation split it falls."""

    text: str
    """Never blank."""
    group: str = ""
    """Documents of one group stay together; empty: the text itself is the group."""


def library_folder() -> Path:
    """Return the folder of the running Python's standard library."""
    return Path(sysconfig.get_paths()["stdlib"])


def library_files(root: Path) -> tuple[Path, ...]:
    """Return the source files of the corpus below `root`, in the order of their names.

    Raises `InputError` for a Python shipped without source.
    """
    found = sorted(_walk(root), key=lambda path: path.relative_to(root).as_posix())
    if not found:
        raise InputError(
            f"this Python has no source of its library in {str(root)[-80:]}, so there is no "
            "default corpus: give files or folders of text"
        )
    return tuple(found)


def _walk(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = [f for f in folders if f not in _SKIPPED and not f.startswith("config-")]
        # Build settings (`_sysconfigdata…`) differ from machine to machine.
        sources = (n for n in names if n.endswith(".py") and not n.startswith("_sysconfigdata"))
        yield from (Path(folder) / name for name in sources)
    if (root / _TOPICS).is_file():
        yield root / _TOPICS


def documentation(root: Path) -> Iterator[Document]:
    """Yield the language topics and a page of docstrings per module, each with its name above."""
    for path in library_files(root):
        if path == root / _TOPICS:
            yield from _topics()
        elif page := _page(_module(path, root), _source(path)):
            yield Document(page, _module(path, root))


def code(root: Path) -> Iterator[Document]:
    """Yield the source of each module that reads well, the topics left out."""
    for path in library_files(root):
        text = _source(path)
        if path != root / _TOPICS and text.strip() and reads_well(text):
            yield Document(text, _module(path, root))


def reads_well(text: str) -> bool:
    """Return whether a text is words rather than a table of codes."""
    raw = text.encode()
    others = len(raw.translate(None, delete=_LETTERS))
    digits = len(raw) - len(raw.translate(None, delete=string.digits.encode()))
    return others <= (1 - _LEAST_LETTERS) * len(raw) and digits <= _MOST_DIGITS * len(raw)


def _topics() -> Iterator[Document]:
    topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    for name in sorted(topics):
        if text := topics[name].strip():
            yield Document(text + "\n", f"topic {name}")


def _module(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _source(path: Path) -> str:
    """Return the text of a module, or nothing when it is not in the encoding it names."""
    try:
        with tokenize.open(path) as file:
            return file.read()
    except (SyntaxError, UnicodeDecodeError):
        return ""


def _page(module: str, source: str) -> str:
    """Return the docstrings of a module under their names, or nothing when it has none."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return ""
    own = ast.get_docstring(tree)
    entries = [own.strip()] if own else []
    entries += [f"{heading}\n\n{doc}" for heading, doc in _entries(tree.body, module)]
    page = "\n\n".join(entries)
    return f"{module}\n{'=' * len(module)}\n\n{page}\n" if page.strip() else ""


def _entries(body: list[ast.stmt], above: str) -> Iterator[tuple[str, str]]:
    """Yield (heading, docstring) of each documented class and function, methods included."""
    for node in body:
        if isinstance(node, _Definition):
            name = f"{above}.{node.name}"
            if doc := (ast.get_docstring(node) or "").strip():
                yield name + _arguments(node), doc
            if isinstance(node, ast.ClassDef):
                yield from _entries(node.body, name)
        elif isinstance(node, ast.If | ast.Try):
            yield from _entries(node.body, above)


def _arguments(node: _Definition) -> str:
    return "" if isinstance(node, ast.ClassDef) else f"({ast.unparse(node.args)})"
