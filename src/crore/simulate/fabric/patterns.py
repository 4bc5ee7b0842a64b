"""Who sends to whom: the steps of collectives, and patterns that networks are judged by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from crore.errors import InputError
from crore.simulate.fabric.network import Ints

Collective = Literal["ring", "halving-doubling", "all-to-all"]
LEAST: Final = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Flows:
    """Messages that start together."""

    source: Ints
    """[flows], endpoints."""
    target: Ints
    """[flows], endpoints, another than the source."""

    def __len__(self) -> int:
        return len(self.source)


@dataclass(frozen=True, kw_only=True, slots=True)
class Phase:
    """A step of a collective: flows of equal size, that all end before the next step begins."""

    flows: Flows
    bytes: float
    """Of each flow."""
    repeat: int = 1
    """How many such steps follow each other."""


def ring_of(ranks: Ints, shift: int = 1) -> Flows:
    """Every rank sends to the one `shift` further on."""
    _check(ranks)
    return Flows(source=ranks, target=np.roll(ranks, -shift))


def permutation_of(ranks: Ints, seed: int) -> Flows:
    """Every rank sends to one other and receives from one other: a random cycle through all."""
    _check(ranks)
    order = np.random.default_rng(seed).permutation(len(ranks))
    return Flows(source=ranks[order], target=ranks[np.roll(order, -1)])


def incast_of(ranks: Ints) -> Flows:
    """All send to the first."""
    _check(ranks)
    return Flows(source=ranks[1:], target=np.full(len(ranks) - 1, ranks[0]))


def exchange_of(ranks: Ints) -> Flows:
    """Everyone sends to every other."""
    _check(ranks)
    one, two = np.nonzero(~np.eye(len(ranks), dtype=bool))
    return Flows(source=ranks[one], target=ranks[two])


def phases_of(kind: Collective, ranks: Ints, buffer_bytes: float) -> tuple[Phase, ...]:
    """Return the steps of an all-reduce (ring, halving-doubling) or all-to-all of `S` bytes a rank.

    Ring `2(n-1)` steps of `S/n`; halving-doubling `S/2, S/4, ..., S/n` with partners `1, 2, 4, ...`
    apart, and the same back (Thakur et al. 2005); all-to-all `S/n` to every other, at once.
    InputError when halving-doubling is given a number of ranks that is no power of two.
    """
    n = len(ranks)
    if kind == "ring":
        return (Phase(flows=ring_of(ranks), bytes=buffer_bytes / n, repeat=2 * (n - 1)),)
    if kind == "all-to-all":
        return (Phase(flows=exchange_of(ranks), bytes=buffer_bytes / n),)
    _check(ranks)
    if n & (n - 1):
        raise InputError(f"halving-doubling wants a power of two of ranks, not {n}")
    place = np.arange(n)
    return tuple(
        Phase(
            flows=Flows(source=ranks, target=ranks[place ^ (1 << step)]),
            bytes=buffer_bytes / (2 << step),
            repeat=2,
        )
        for step in range(n.bit_length() - 1)
    )


def _check(ranks: Ints) -> None:
    if len(ranks) < LEAST or len(np.unique(ranks)) != len(ranks):
        raise InputError(f"a pattern wants two ranks and more, all different, not {len(ranks)}")
