"""Everything crore raises on purpose.

CroreError
├── InputError        the user's file, flag or name is wrong          exit code 2
│   └── UnknownName   a name the catalogue does not hold, with the nearest valid ones
└── Infeasible        the request is sound but nothing satisfies it   exit code 1
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MAX_MESSAGE_CHARS = 240
MAX_SHOWN_CHARS = 60


class CroreError(Exception):
    """Root of the tree; the message is one line: the rule, the numbers, what to do."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        room = MAX_MESSAGE_CHARS - len("crore: ")
        super().__init__(message if len(message) <= room else f"{message[: room - 1]}…")


class InputError(CroreError):
    """The user's input breaks a rule."""


class UnknownName(InputError):
    """A name that is not in the catalogue (or a key that is not in a schema).

    The message names the nearest valid names, and where all are: the command that lists them, or
    the names themselves when they fit on the line.
    """

    def __init__(self, kind: str, name: str, valid: Iterable[str], listing: str = "") -> None:
        self.kind, self.name, self.valid, self.listing = kind, name, list(valid), listing
        near = nearest(name, self.valid)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        text = f"unknown {kind} {shown(name)}{hint}"
        tail = f" (all: {listing})" if listing else f" (one of: {', '.join(self.valid)})"
        fits = len(text) + len(tail) <= MAX_MESSAGE_CHARS - len("crore: ")
        super().__init__(text + tail if listing or fits else text)


class Infeasible(CroreError):
    """Nothing in the space satisfies the constraints; the message says what would."""

    exit_code = 1


def shown(value: object) -> str:
    """Return what was given as a message echoes it: at most 60 characters."""
    try:
        text = repr(value[:MAX_SHOWN_CHARS] if isinstance(value, str) else value)
    except ValueError:  # Python prints no whole number of more than 4,300 digits
        return "a number of thousands of digits"
    cut = len(text) > MAX_SHOWN_CHARS
    return f"{text[: MAX_SHOWN_CHARS - 1]}…" if cut else text


def nearest(name: str, valid: Iterable[str], count: int = 3) -> list[str]:
    """Return the up to `count` valid names most like `name`, best first.

    Names that begin with what was typed come first (`h100` means an H100, not the closer-spelt
    `h200`), then the closest spellings.
    """
    folded = {n.lower(): n for n in valid}
    key = name.lower()
    starts = sorted((n for n in folded if key and n.startswith(key)), key=len)
    close = difflib.get_close_matches(key, folded, n=count, cutoff=0.5)
    return [folded[n] for n in dict.fromkeys([*starts, *close])][:count]
