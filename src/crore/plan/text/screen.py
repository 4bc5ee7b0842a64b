"""What a text is shown on: how wide it is, and whether it has block characters."""

from __future__ import annotations

from dataclasses import dataclass

from crore.errors import InputError

NARROWEST, WIDEST = 60, 120


@dataclass(frozen=True, kw_only=True, slots=True)
class Screen:
    """A terminal, or a file; without a terminal 120 columns and every character."""

    columns: int = WIDEST
    """Characters of a line at most."""
    blocks: bool = True
    """It shows block characters; ASCII stands in for them where it does not."""

    def __post_init__(self) -> None:
        if self.columns < NARROWEST:
            raise InputError(f"a screen has {NARROWEST} columns or more, not {self.columns}")

    def drawn(self, text: str) -> str:
        """Return text with ASCII for the characters that bars and plots are drawn with."""
        return text if self.blocks else text.translate(_ASCII)


_ASCII = str.maketrans({"█": "#", "▏": "|", "░": ".", "│": "|", "─": "-", "┼": "+", "└": "+",
                        "┤": "+", "┴": "+", "·": "."})  # fmt: skip
