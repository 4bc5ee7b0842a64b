"""The state of every component of one island, each drawn independently of the others.

What is common (the jitter of a GPU's step) is an array over GPUs; what is rare (stragglers, dead
planes) is a list of who has it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crore.cost.stragglers import STEP_NOISE
from crore.errors import InputError
from crore.simulate.fabric.network import Floats, Ints

OFTEN: Final = 0.1
"""Above this probability it is cheaper to ask every component."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Frailty:
    """How often components are slow or dead; estimates, for want of published counts."""

    noise: float = STEP_NOISE
    """Standard deviation of a GPU's compute time over its mean, fresh each step."""
    straggler_share: float = 1e-5
    """Probability that a GPU is throttled."""
    straggler_slowdown: float = 1.3
    """Compute time of a throttled GPU over another's."""
    dead_plane_share: float = 1e-3
    """Probability that one of a GPU's links to its planes is down."""
    dead_uplink_share: float = 1e-3
    """Probability that one uplink of a leaf is down."""
    dead_switch_share: float = 1e-4
    """Probability that a switch is down: of a leaf in one plane, or one above."""
    dead_pair_share: float = 1e-3
    """Probability that one of a site's long-distance fibre pairs is down."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_share") and not 0 <= value <= 1:
                raise InputError(f"{field.name} is a probability, 0 to 1, not {value:g}")
        if not 0 <= self.noise < 1 or not 1 <= self.straggler_slowdown < np.inf:
            raise InputError(
                f"noise is 0 to 1 and a straggler 1 times as slow or more, not {self.noise:g}, "
                f"{self.straggler_slowdown:g}"
            )


def some_of(random: np.random.Generator, count: int, probability: float) -> Ints:
    """Return which of so many happen, rising, each with that probability, independently.

    How many is binomial, and which ones the first that differ in a row of uniform draws.
    """
    if probability > OFTEN:
        return np.flatnonzero(random.random(count) < probability).astype(np.int64)
    wanted = int(random.binomial(count, probability))
    found = np.zeros(0, dtype=np.int64)
    while len(found) < wanted:
        found = np.unique(np.r_[found, random.integers(0, count, wanted - len(found))])
    return found


def compute_factors(random: np.random.Generator, gpus: int, noise: float) -> NDArray[np.float32]:
    """Return compute time over its mean of each GPU, without stragglers."""
    factors = random.standard_normal(gpus, dtype=np.float32)
    factors *= np.float32(noise)
    factors += np.float32(1)
    return factors


def live_planes(
    dead: Ints, worlds: int, world_gpus: int, distance: int, planes: int
) -> tuple[Ints, int]:
    """Return [worlds], the fewest planes two partners have in common, and how many GPUs miss one.

    `dead` numbers dead links, `gpu·planes + plane`. A GPU's partner is `distance` further on in its
    world, the first after the last: the next of its ring. A plane dead at either end is dead for
    both.
    """
    gpu, plane = dead // planes, dead % planes
    owners, place = np.unique(gpu, return_inverse=True)
    masks = np.zeros(len(owners), dtype=np.int64)
    np.bitwise_or.at(masks, place.ravel(), np.int64(1) << plane)
    # A GPU and the one before it share no fewer planes than that GPU and the one after: both pairs
    # miss its dead ones, and the one before is looked at itself if it has any.
    missing = masks | _masks_at(_moved(owners, distance, world_gpus), owners, masks)
    common = planes - _ones(missing)
    fewest = np.full(worlds, planes, dtype=np.int64)
    np.minimum.at(fewest, owners // world_gpus, common)
    return fewest, len(owners)


@dataclass(frozen=True, kw_only=True, slots=True)
class Leaves:
    """The state of an island's leaf switches; a leaf has one in each plane."""

    dead: Ints
    """Dead switches, `leaf·planes + plane`, rising."""
    reachable: Ints
    """[leaves], uplinks of all planes that lead from a live switch to a live one."""
    uplinks: Ints
    """[leaves], those of them that are alive: one fat link under spraying."""


def leaves_of(
    random: np.random.Generator, leaves: int, planes: int, uplinks: int, frailty: Frailty
) -> Leaves:
    """Draw the switches of so many leaves, those above them (one for each uplink) and the links."""
    above = uplinks - random.binomial(uplinks, frailty.dead_switch_share, planes)
    dead = some_of(random, leaves * planes, frailty.dead_switch_share)
    reachable = np.tile(above, (leaves, 1)).astype(np.int64)
    alive = reachable - random.binomial(reachable, frailty.dead_uplink_share)
    for ports in (reachable, alive):
        ports.reshape(-1)[dead] = 0
    return Leaves(dead=dead, reachable=reachable.sum(axis=1), uplinks=alive.sum(axis=1))


def links_under(dead: Ints, planes: int, leaf_gpus: int, rails: int, gpus: int) -> Ints:
    """Return the links `gpu·planes + plane` of all GPUs under dead leaf switches.

    Leaf l holds, of the servers of `rails` GPUs of group `l // rails`, GPU number `l mod rails`.
    """
    leaf, plane = dead // planes, dead % planes
    server = (leaf // rails * leaf_gpus)[:, None] + np.arange(leaf_gpus)
    gpu = server * rails + (leaf % rails)[:, None]
    return (gpu * planes + plane[:, None])[gpu < gpus]


def worst_by_world(values: Floats, block_gpus: int, worlds: int, world_gpus: int) -> Floats:
    """Return [worlds], the least value of the blocks of consecutive GPUs a world lies in."""
    begin = np.arange(worlds) * world_gpus // block_gpus
    end = -(-(np.arange(worlds) + 1) * world_gpus // block_gpus)
    edges = np.stack([begin, end], axis=1).ravel()
    # Every second piece is a world; a piece from an edge to one no later is that edge's own value.
    return np.minimum.reduceat(np.r_[values, np.inf], edges)[::2]


def _moved(gpu: Ints, distance: int, world_gpus: int) -> Ints:
    return gpu // world_gpus * world_gpus + (gpu + distance) % world_gpus


def _masks_at(gpu: Ints, owners: Ints, masks: Ints) -> Ints:
    """Return the dead planes of GPUs, most of which are in no list."""
    if not len(owners):
        return np.zeros(len(gpu), dtype=np.int64)
    place = np.minimum(np.searchsorted(owners, gpu), len(owners) - 1)
    return np.where(owners[place] == gpu, masks[place], 0)


def _ones(masks: Ints) -> Ints:
    count = np.zeros_like(masks)
    while masks.any():
        count += masks & 1
        masks = masks >> 1
    return count
