"""The default conversations: small talk of chatterbot-corpus, and questions about Python itself."""

from __future__ import annotations

import ast
import importlib.resources
import importlib.util
import random
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from crore.errors import InputError
from crore.train.tune.compiled import compiled
from crore.train.tune.conversations import Conversation, Pair, question_of

PERSONA: Final = ("botprofile", "gossip", "politics", "humor", "emotion")
"""Topics whose answers are jokes, or speak of somebody."""
TOPICS: Final = "chatterbot_corpus"
LEFT_OUT: Final = ("test", "idlelib", "lib2to3", "turtledemo")
"""Modules that are no library."""
TABLES: Final = ("encodings",)
"""Whose modules say nearly the same of themselves, a hundred times."""
ANSWER_CHARS: Final = 300
"""Longest answer that is made of a docstring: its first paragraph, or nothing."""
LEAST_CHARS: Final = 12
ASKED: Final = ("What does `{}` do?", "What is `{}` for?", "Tell me what `{}` does.")
"""A function is asked about in one of these words, by its name's turn."""
REJECTED: Final = "I do not know."


def default_conversations() -> list[Conversation]:
    """Return all of them in a fixed order; the part about Python differs by its version.

    Raises InputError without chatterbot-corpus.
    """
    return [*_once(topics()), *docstrings()]


def topics() -> Iterator[Conversation]:
    """Yield chatterbot-corpus' English conversations (BSD-3-Clause), persona left out."""
    if importlib.util.find_spec(TOPICS) is None:
        raise InputError(
            "the default conversations need chatterbot-corpus: pip install 'crore[tune]', "
            "or give --data FILE.jsonl"
        )
    import yaml

    folder = importlib.resources.files(TOPICS) / "data" / "english"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".yml")), key=lambda f: f.name)
    for file in files:
        if file.name.removesuffix(".yml") in PERSONA:
            continue
        found: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
        for said in found["conversations"]:
            words = [str(line).strip() for line in said]
            if len(words) > 1 and all(words[:2]):  # what follows is a turn, or another answer
                yield _asked(words[0], words[1])


def _once(told: Iterable[Conversation]) -> Iterator[Conversation]:
    """Yield each conversation once: ten of tech support are there a hundred times."""
    known: set[tuple[str, str]] = set()
    for conversation in told:
        key = (question_of(conversation), conversation[-1]["content"].lower())
        if key not in known:
            known.add(key)
            yield conversation


def _asked(question: str, answer: str) -> Conversation:
    return (
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
    )


def docstrings() -> Iterator[Conversation]:
    """Yield questions about the running Python's library (PSF-2.0), answered by its docstrings.

    Public functions, classes and methods as they are written, then modules, then what is in C; of
    several that say the same, the first: held out, the others would give it away.
    """
    written: list[tuple[str, str]] = []
    modules: list[tuple[str, str]] = []
    for module, tree in _library():
        written += _documented(tree, module)
        if module.partition(".")[0] not in TABLES:
            modules.append((module, ast.get_docstring(tree) or ""))
    told: set[str] = set()
    for source in (written, modules, compiled()):
        answered = ((name, text) for name, whole in source if (text := _answer(name, whole)))
        for turn, (name, text) in enumerate(answered):
            if text.lower() not in told:
                told.add(text.lower())
                yield _asked(ASKED[turn % len(ASKED)].format(name), text)


def _library() -> Iterator[tuple[str, ast.Module]]:
    """Yield (name, tree) of the library's public modules."""
    root = Path(sysconfig.get_path("stdlib"))
    for name in sorted(sys.stdlib_module_names):
        if name.startswith("_") or name in LEFT_OUT:
            continue
        for path in (root / f"{name}.py", *sorted((root / name).rglob("*.py"))):
            parts = path.relative_to(root).with_suffix("").parts
            private = any(p.startswith("_") and p != "__init__" for p in parts)
            if not path.is_file() or private or {"test", "tests"} & {*parts}:
                continue
            try:
                tree = ast.parse(path.read_text(encoding="utf-8", errors="replace"))
            except (SyntaxError, ValueError):  # a file that is there to be wrong
                continue
            yield ".".join(parts).removesuffix(".__init__"), tree


def _documented(tree: ast.Module, module: str) -> Iterator[tuple[str, str]]:
    """Yield (name, docstring) of a module's functions, classes and methods."""
    for node in tree.body:
        inner = node.body if isinstance(node, ast.ClassDef) else []
        prefix = f"{module}.{node.name}" if isinstance(node, ast.ClassDef) else module
        for found in (node, *inner):
            if not isinstance(found, ast.FunctionDef | ast.ClassDef) or found.name[0] == "_":
                continue
            name = prefix if found is node and inner else f"{prefix}.{found.name}"
            yield name, ast.get_docstring(found) or ""


def _answer(name: str, text: str) -> str:
    """Return the first paragraph of a docstring, or nothing if that is no answer."""
    found = " ".join(text.strip().partition("\n\n")[0].split())
    return found if LEAST_CHARS <= len(found) <= ANSWER_CHARS and found != name else ""


def pairs_of(conversations: list[Conversation], seed: int) -> list[Pair]:
    """Return a preference for each answer: over the answer to another question."""
    asked = [c for c in conversations if len(c) == 2]
    others = asked.copy()
    random.Random(seed).shuffle(others)  # noqa: S311
    return [
        Pair(prompt=own[:1], chosen=own[1]["content"], rejected=_rejected(own, other))
        for own, other in zip(asked, others, strict=True)
    ]


def _rejected(own: Conversation, other: Conversation) -> str:
    same = question_of(own) == question_of(other) or own[1]["content"] == other[1]["content"]
    return REJECTED if same else other[1]["content"]
