"""The process groups of one GPU of a fleet: its world's, its quorum's, its outer group.

The two above the world are objects of their own, never registered in it: they cost the same among
one world as among thousands. What processes cost that really meet: `rendezvous`, `lighthouse`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.distributed import ProcessGroup

from crore.model.mesh import World, make_world
from crore.model.split import Split
from crore.rehearse.around import Around, islands_group, worlds_group
from crore.rehearse.fake import seen_from
from crore.rehearse.place import Fleet, Place
from crore.train.meters import resident_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Above:
    """The groups of a GPU above its world; sizes are `group.size()`, places `group.rank()`."""

    quorum: ProcessGroup
    """The same rank in every world of the island."""
    outer: ProcessGroup
    """The same rank in every island's leading world."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Seat:
    """Every process group of one GPU of a fleet."""

    place: Place
    world: World
    above: Above


@dataclass(frozen=True, kw_only=True, slots=True)
class StartCost:
    """What it cost to make the groups of one GPU."""

    gpus: int
    """Of the fleet."""
    cpu_s: float
    """All groups and meshes of the GPU."""
    above_cpu_s: float
    """Of that, quorum and outer group, made once more."""
    peak_bytes: float
    """Physical memory of the process at its highest, Python and torch included."""


def groups_above(fleet: Fleet, place: Place) -> Above:
    """Return the groups above a GPU's world, which nothing but it knows of."""
    around = Around(
        world=place.world, worlds=fleet.worlds_of(place.island), island=place.island,
        islands=fleet.islands,
    )  # fmt: skip
    return Above(quorum=worlds_group(around), outer=islands_group(around))


@contextmanager
def seated(
    fleet: Fleet, gpu: int, split: Split, *, experts: bool = False, tied: bool = False
) -> Iterator[Seat]:
    """Be one GPU of a fleet that does not exist, with every group it would have.

    Raises InputError for a GPU that the fleet does not have.
    """
    assert split.ranks == fleet.ranks, (split.ranks, fleet.ranks)
    place = fleet.place(gpu)
    with seen_from(place.rank, fleet.ranks):
        world = make_world(split, torch.device("cpu"), experts=experts, tied=tied)
        yield Seat(place=place, world=world, above=groups_above(fleet, place))


def start_cost(
    fleet: Fleet, gpu: int, split: Split, *, experts: bool = False, tied: bool = False
) -> StartCost:
    """Make the groups of one GPU, and return what that cost this process."""
    before_s = time.process_time()
    with seated(fleet, gpu, split, experts=experts, tied=tied) as seat:
        all_s = time.process_time() - before_s
        before_s = time.process_time()
        groups_above(fleet, seat.place)
        return StartCost(
            gpus=fleet.gpus, cpu_s=all_s, above_cpu_s=time.process_time() - before_s,
            peak_bytes=resident_bytes(),
        )  # fmt: skip
