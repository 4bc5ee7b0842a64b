"""What a rank does above its world: with the same rank of other worlds, and of other islands.

Worlds of an island add up gradients every step, islands exchange weights every few: in both, rank k
meets the ranks k, so all must hold the same parts of the same weights.
"""

from __future__ import annotations

from collections.abc import Mapping

from crore.cost.islands import sent_bits
from crore.rehearse.agree import Finding
from crore.rehearse.trace import Trace

GRADIENT_BYTES = 4
"""Of an element that worlds add up every step."""


def quorum_bytes(trace: Trace) -> int:
    """Return the bytes that a rank reduces with the same rank of every world, each step."""
    return GRADIENT_BYTES * trace.parameters


def outer_bytes(trace: Trace, bits: float) -> float:
    """Return the bytes that a rank reduces with the same rank of every island, each round.

    Scales included, where the bits need them.
    """
    return float(sent_bits(bits)) / 8 * trace.parameters


def worlds_disagree(traces: Mapping[int, Trace]) -> list[Finding]:
    """Return what is wrong between worlds, by one rank of each: other parts of the weights.

    The layout of most of them is taken for the right one.
    """
    held = {world: tuple(sorted(trace.shards.items())) for world, trace in traces.items()}
    counts: dict[object, int] = {}
    for parts in held.values():
        counts[parts] = counts.get(parts, 0) + 1
    right = max(held.values(), key=lambda parts: counts[parts])
    found = []
    for world, parts in held.items():
        if parts != right:
            ours, theirs = dict(parts), dict(right)
            name = next(n for n in (*theirs, *ours) if ours.get(n) != theirs.get(n))
            found.append(
                Finding(
                    kind="mismatch", ranks=(traces[world].rank,),
                    text=f"world {world} has another layout: its rank {traces[world].rank} holds "
                    f"{_words(ours.get(name))} of {name}, the others {_words(theirs.get(name))}; "
                    "their quorum would hang or add up different weights",
                )
            )  # fmt: skip
    return found


def _words(shape: tuple[int, ...] | None) -> str:
    return "nothing" if shape is None else f"[{', '.join(map(str, shape))}]"
