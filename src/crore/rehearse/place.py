"""Where a GPU of a fleet stands: island, world, rank; and whom it meets above its world.

Numbers alone: nothing here grows with the fleet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from crore.catalog.types import ModelSpec
from crore.errors import InputError
from crore.model.split import world_split
from crore.rehearse.around import Around
from crore.rehearse.trace import Work
from crore.train.islands.settings import Outer

OUTER_BITS: Final = 16
"""Of an outer gradient's element, where a plan has no outer step to say so."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """One GPU of a fleet."""

    island: int
    world: int
    """In its island."""
    rank: int
    """In its world."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fleet:
    """Islands of worlds of ranks; GPUs are numbered island by island, world by world.

    Where the worlds are no multiple of the islands, the first islands have one more.
    """

    islands: int
    worlds: int
    """Of all islands."""
    ranks: int
    """Of one world."""

    def __post_init__(self) -> None:
        """Raise InputError for an island without a world."""
        if not 1 <= self.islands <= self.worlds:
            raise InputError(f"{self.islands:,} islands need a world each, not {self.worlds:,}")

    @property
    def gpus(self) -> int:
        """All ranks of all worlds."""
        return self.worlds * self.ranks

    def worlds_of(self, island: int) -> int:
        """Return the worlds of an island."""
        each, more = divmod(self.worlds, self.islands)
        return each + (island < more)

    def first_world(self, island: int) -> int:
        """Return the number of an island's first world in the fleet."""
        each, more = divmod(self.worlds, self.islands)
        return island * each + min(island, more)

    def place(self, gpu: int) -> Place:
        """Return where a GPU stands; InputError for one that the fleet does not have."""
        if not 0 <= gpu < self.gpus:
            raise InputError(f"--rank is 0 to {self.gpus - 1:,} in this plan, not {gpu:,}")
        world, rank = divmod(gpu, self.ranks)
        each, more = divmod(self.worlds, self.islands)
        longer = more * (each + 1)
        island = world // (each + 1) if world < longer else more + (world - longer) // each
        return Place(island=island, world=world - self.first_world(island), rank=rank)

    def gpu(self, place: Place) -> int:
        """Return the number of the GPU at a place."""
        return (self.first_world(place.island) + place.world) * self.ranks + place.rank

    def quorum(self, place: Place) -> range:
        """Return the GPUs of the same rank in every world of an island: one quorum group."""
        first = self.gpu(replace(place, world=0))
        return range(first, first + self.worlds_of(place.island) * self.ranks, self.ranks)

    def outer(self, place: Place) -> tuple[int, ...]:
        """Return the GPUs of the same rank in every island's leading world: one outer group."""
        places = (Place(island=k, world=0, rank=place.rank) for k in range(self.islands))
        return tuple(self.gpu(other) for other in places)


def fleet_of(plan: Mapping[str, Any]) -> Fleet:
    """Return the fleet of a plan's body."""
    return Fleet(
        islands=int(plan["islands"]), worlds=int(plan["worlds"]), ranks=world_split(plan).ranks
    )


def around_of(plan: Mapping[str, Any], fleet: Fleet, place: Place) -> Around:
    """Return what stands around a place of a fleet, its islands joined as the plan says.

    In 16 bits where a plan of one island says nothing. Raises InputError for an outer step that
    the trainer does not take.
    """
    step = plan["outer_step"] or {"interval": 1, "bits": OUTER_BITS}
    outer = Outer(interval=int(step["interval"]), bits=int(step["bits"]))
    return Around(
        world=place.world, worlds=fleet.worlds_of(place.island), island=place.island,
        islands=fleet.islands, outer=outer if fleet.islands > 1 else None,
    )  # fmt: skip


def work_of(plan: Mapping[str, Any], spec: ModelSpec) -> Work:
    """Return the work of one world of a plan.

    InputError where the batch does not divide into worlds.
    """
    seq_len = int(plan["seq_len"])
    sequences, worlds = int(plan["global_batch_tokens"]) // seq_len, int(plan["worlds"])
    if sequences % worlds:
        raise InputError(f"{sequences:,} sequences a step are not shared evenly by {worlds} worlds")
    optimizer = str(plan["request"].get("fix", {}).get("optimizer", "adamw"))
    return Work(
        spec=spec, split=world_split(plan), seq_len=seq_len, global_batch=sequences // worlds,
        optimizer=optimizer,
    )  # fmt: skip
