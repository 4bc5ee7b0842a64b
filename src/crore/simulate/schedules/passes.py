"""What a pipeline rank runs: passes over chunks, and the way a micro-batch takes through them.

A rank holds chunks of the model, counted from 0. Letters are torch's: `F` forward, `B` the whole
backward, `I` its half that makes input gradients, `W` the half that makes weight gradients.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal["F", "B", "I", "W"]
KINDS: Final[tuple[Kind, ...]] = ("F", "B", "I", "W")
Place: TypeAlias = tuple[int, int]
"""(rank, chunk)."""


class Pass(NamedTuple):
    """One micro-batch through one chunk of a rank, forward or backward."""

    kind: Kind
    chunk: int
    micro_batch: int


Slot: TypeAlias = tuple[Pass, ...]
"""Passes that a rank runs as one: a single one, or DualPipe's forward and backward overlapped."""


def ways(schedule: str, ranks: int, chunks: int) -> tuple[tuple[Place, ...], ...]:
    """Return the places a micro-batch goes through, first stage to last.

    One way for all, but DualPipe has two, from either end; its copies of the model are chunks.
    """
    down = range(ranks)
    if schedule == "dualpipe":
        return tuple((r, 0) for r in down), tuple((r, 1) for r in reversed(down))
    if schedule in FOLDED:
        return (tuple((r, 0) for r in down) + tuple((r, 1) for r in reversed(down)),)
    return (tuple((r, c) for c in range(chunks) for r in down),)


FOLDED: Final = ("zb-v", "dualpipe-v")
"""The pipeline turns round at the last rank: a rank holds one stage of each leg."""


def chunk_share(schedule: str, chunks: int) -> float:
    """Return a chunk's share of one rank's stage: DualPipe's two copies are whole stages."""
    return 1.0 if schedule == "dualpipe" else 1.0 / chunks
