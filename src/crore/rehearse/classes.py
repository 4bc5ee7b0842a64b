"""Which ranks stand for all: the asked one, its pipeline neighbours, the edge of each axis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, TypeAlias

from crore.model.split import Split

Reach: TypeAlias = Literal["one", "near", "all"]
REACHES: Final = ("one", "near", "all")
"""The rank alone; also its neighbours, both ends and the edges; also every pipeline rank."""


def representatives(split: Split, rank: int, reach: Reach) -> list[int]:
    """Return the ranks of a world to trace, the asked one first.

    Ranks of one pipeline rank do the same but for whom they do it with, so one of them at each end
    of an axis stands for those between.
    """
    if reach == "one":
        return [rank]
    return list(dict.fromkeys([rank, *_stages(split, rank, reach), *_edges(split, rank)]))


def _stages(split: Split, rank: int, reach: Reach) -> Iterator[int]:
    each = split.ranks // split.pp
    own, inside = divmod(rank, each)
    near = {0, own - 1, own + 1, split.pp - 1}
    for stage in range(split.pp):
        if reach == "all" or stage in near:
            yield stage * each + inside


def _edges(split: Split, rank: int) -> Iterator[int]:
    """Yield the last rank of each axis through the asked rank, the first if that is the last."""
    stride = 1
    for size in (split.tp, split.cp, split.dp_shard, split.dp_replicate):
        at = rank // stride % size
        if size > 1:
            yield rank + ((size - 1 if at < size - 1 else 0) - at) * stride
        stride *= size


def untraced(split: Split, ranks: list[int]) -> list[int]:
    """Return the pipeline ranks of which no rank was traced."""
    each = split.ranks // split.pp
    seen = {rank // each for rank in ranks}
    return [stage for stage in range(split.pp) if stage not in seen]
