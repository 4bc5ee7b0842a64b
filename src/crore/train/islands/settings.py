"""How islands join: how often, in how many pieces, in how many bits, and how the result is used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from crore.errors import InputError

BITS: Final = (32, 16, 8, 4)
"""Of an outer gradient's values as they are sent, widest first."""
OVERLAPPED_SHARE: Final = 0.5
"""Of the global weights in an island's own, where it went on training while they were made
(Streaming DiLoCo, arXiv 2501.18512, alpha)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outer:
    """The outer step: DiLoCo (arXiv 2311.08105), streamed as in arXiv 2501.18512.

    The weights are cut into fragments that are sent in turn, each once in `interval` steps.
    """

    interval: int = 50
    """Inner steps between two rounds of one fragment (H)."""
    bits: int = 32
    """Of an outer gradient's values as they are sent: one of `BITS`."""
    fragments: int = 1
    """Pieces that are sent in turn, evenly over the interval (F)."""
    overlap: int = 0
    """Inner steps between sending a fragment and taking up the result (tau)."""
    lr: float = 0.7
    """Outer learning rate; 1 without momentum is plain averaging."""
    momentum: float = 0.9
    nesterov: bool = True
    """Whether momentum looks ahead; without momentum it makes no difference."""
    mixing: float | None = None
    """Share of the global weights in what an island goes on with, above 0 to 1; None: 1 without
    overlap, a half with it."""

    def __post_init__(self) -> None:
        """Raise `InputError` for rounds that do not fit, and values no outer step takes."""
        if self.bits not in BITS:
            raise InputError(f"outer gradients are sent in {BITS} bits a value, not {self.bits}")
        if self.interval < 1 or self.fragments < 1 or self.interval % self.fragments:
            raise InputError(
                f"an interval of {self.interval} steps is not cut evenly into {self.fragments} "
                "fragments: give fragments that divide the interval"
            )
        if not 0 <= self.overlap < self.spacing:
            raise InputError(
                f"an overlap of {self.overlap} steps must be 0 or more and below the "
                f"{self.spacing} from one fragment to the next: shorten it, or send fewer fragments"
            )
        if not (self.lr > 0 and 0 <= self.momentum < 1 and 0 < self.share <= 1):
            raise InputError(
                f"an outer step takes a learning rate above 0 ({self.lr}), a momentum from 0 to "
                f"below 1 ({self.momentum}) and a mixing above 0 to 1 ({self.share})"
            )

    @property
    def spacing(self) -> int:
        """Inner steps from one fragment to the next."""
        return self.interval // self.fragments

    @property
    def share(self) -> float:
        """Share of the global weights in what an island goes on with."""
        if self.mixing is not None:
            return self.mixing
        return OVERLAPPED_SHARE if self.overlap else 1.0

    def sends(self, steps: int) -> int | None:
        """Return the fragment to send after so many inner steps, if one is due."""
        turn, rest = divmod(steps, self.spacing)
        return None if rest or not turn else (turn - 1) % self.fragments

    def takes(self, steps: int) -> int | None:
        """Return the fragment whose result is taken up after so many inner steps, if one is due.

        Without overlap that is the fragment just sent.
        """
        return self.sends(steps - self.overlap)
