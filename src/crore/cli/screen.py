"""What the answer is read on: a terminal of so many columns, or a file."""

import shutil
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crore.plan.text.screen import Screen


def screen() -> "Screen":
    """Return what stdout is: as wide as its terminal, 120 columns where it is none."""
    from crore.plan.text.screen import NARROWEST, WIDEST, Screen

    wide = WIDEST
    if sys.stdout.isatty():
        wide = min(WIDEST, max(NARROWEST, shutil.get_terminal_size((WIDEST, 24)).columns))
    return Screen(columns=wide, blocks=_shows_blocks(sys.stdout.encoding))


def _shows_blocks(encoding: str | None) -> bool:
    try:
        "█▏░┤".encode(encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
