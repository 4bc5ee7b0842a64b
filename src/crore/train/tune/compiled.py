"""What the Python that runs says about its parts in C: `len`, `str.split`, `math.exp`."""

from __future__ import annotations

import importlib
import inspect
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Final

KNOWN_AS: Final = {"builtins": "", "posix": "os.", "nt": "os."}
"""What a module's names are called by; others by the module's own name."""
REPLACED: Final = ("sys.excepthook",)
"""What a program puts its own in the place of: it would not be the same in every process."""


def compiled() -> Iterator[tuple[str, str]]:
    """Yield (name, docstring) of the public modules of the library without Python source.

    Their functions, classes and what those have of their own.
    """
    for module in _modules():
        prefix = KNOWN_AS.get(module.__name__, f"{module.__name__}.")
        yield from (found for found in _members(module, prefix) if found[0] not in REPLACED)


def _modules() -> Iterator[ModuleType]:
    root = Path(sysconfig.get_path("stdlib"))
    for name in sorted(sys.stdlib_module_names):
        if name.startswith("_") or (root / f"{name}.py").exists() or (root / name).is_dir():
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                found = importlib.import_module(name)
            except ImportError:  # another system's
                continue
        yield found


def _members(owner: ModuleType | type, prefix: str) -> Iterator[tuple[str, str]]:
    for name in sorted(name for name in vars(owner) if not name.startswith("_")):
        member = getattr(owner, name)
        described = inspect.isroutine(member) or inspect.isclass(member)
        if not (described or inspect.isgetsetdescriptor(member)):
            continue
        if isinstance(member.__doc__, str):
            yield f"{prefix}{name}", _described(member.__doc__, name)
        if inspect.isclass(member) and inspect.ismodule(owner):
            yield from _members(member, f"{prefix}{name}.")


def _described(text: str, name: str) -> str:
    """Return a docstring without the call that some begin with: `mktime(tuple) -> float`."""
    paragraphs = text.strip().split("\n\n")
    while len(paragraphs) > 1 and paragraphs[0].partition("(")[0].rpartition(".")[2] == name:
        del paragraphs[0]
    return "\n\n".join(paragraphs)
