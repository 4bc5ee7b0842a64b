"""What the code says about itself: formulas from docstrings, constants from the line below them.

Taken from the source that computes the number, so that an explanation cannot fall behind it.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, Final

CITATION: Final = re.compile(
    r"arXiv \d{4}\.\d{4,5}(?: v\d)?|(?:NSDI|SOSP|ASPLOS) \d{4}|Daly 2006|\bNVIDIA/\S+\w|EIA [^;,]+"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """One function that takes part in a number."""

    function: str
    """Where it is, as Python imports it."""
    text: str
    """Its docstring on one line: what it computes, in words and symbols."""


def note_of(function: Callable[..., Any] | property) -> Note:
    """Return a function's own words."""
    made: Any = function.fget if isinstance(function, property) else function
    text = " ".join((inspect.getdoc(made) or "").split())
    return Note(function=f"{made.__module__}.{made.__qualname__}", text=text)


def citations(text: str) -> tuple[str, ...]:
    """Return the papers and tables a text names, each once."""
    return tuple(dict.fromkeys(CITATION.findall(text)))


def constant(name: str) -> tuple[Any, str]:
    """Return a module constant (`crore.cost.goodput.DISK`) and what its module says about it."""
    module, _, own = name.rpartition(".")
    return getattr(importlib.import_module(module), own), _words(module).get(own, "")


def field_note(owner: type, name: str) -> str:
    """Return what a record says about one of its fields; empty where it says nothing."""
    return _words(owner.__module__).get(f"{owner.__name__}.{name}", "")


@cache
def _words(module: str) -> dict[str, str]:
    """Return the string under every assignment of a module and of its classes."""
    tree = ast.parse(inspect.getsource(importlib.import_module(module)))
    found = dict(_below(tree.body, ""))
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            found |= _below(node.body, f"{node.name}.")
    return found


def _below(body: list[ast.stmt], prefix: str) -> dict[str, str]:
    found = {}
    for here, after in pairwise(body):
        target: ast.expr | None = here.target if isinstance(here, ast.AnnAssign) else None
        if isinstance(here, ast.Assign):
            target = here.targets[0]
        says = after.value if isinstance(after, ast.Expr) else None
        if isinstance(target, ast.Name) and isinstance(says, ast.Constant):
            found[prefix + target.id] = " ".join(str(says.value).split())
    return found
