"""One round of the outer step on one rank, by the trainer's own exchange and outer optimizer.

As the world that leads its island takes it, which any world may have to: it keeps what there was,
exchanges a fragment with the other islands, moves the fragment's outer state and gives it to the
worlds of its island (`train/islands/joining.py`). All of it is in the host's memory. Who died, and
what a fragment says, is not rehearsed: each number that the code reads of a tensor is 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup

from crore.rehearse.around import Around, crew_of, islands_group
from crore.rehearse.ledger import Ledger
from crore.rehearse.messages import Message
from crore.train.fault.crew import Crew
from crore.train.islands.exchange import Exchanged, Members, mean, products_of
from crore.train.islands.gate import Gate
from crore.train.islands.letter import letter_bytes
from crore.train.islands.outer import OuterState
from crore.train.islands.quantise import SLAB_VALUES

WEIGHTS = "weights"
"""Kind of what lies on the card meanwhile."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """What one rank did while every fragment was sent once."""

    turns: tuple[tuple[str, ...], ...]
    """Parameters of each turn's fragment, in their order in what is sent."""
    messages: tuple[Message, ...]
    """In the order it issued them."""
    state_bytes: int
    """Global weights and momentum, alive from round to round, in the host's memory."""
    peak_bytes: int
    """The most of the host's memory that is taken, the state included."""
    operations: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Joining:
    """Who joins, and what."""

    around: Around
    group: ProcessGroup
    crew: Crew | None
    state: OuterState
    named: Mapping[str, Tensor]
    ledger: Ledger


def take_round(
    around: Around, state: OuterState, named: Mapping[str, Tensor], ledger: Ledger,
    inside: Callable[[], AbstractContextManager[Any]],
) -> Round:  # fmt: skip
    """Send each fragment once and return what a ledger booked, which knows no tensor yet."""
    ledger.hold(named.values(), WEIGHTS)
    ledger.hold(state.tensors(named).values(), "outer")
    joining = _Joining(
        around=around, group=islands_group(around), crew=crew_of(replace(around, world=0)),
        state=state, named=named, ledger=ledger,
    )  # fmt: skip
    turns = range(state.settings.fragments)
    with ledger.counting(), inside(), ledger.update("", "round"), ledger.answering():
        for turn in turns:
            _turn(joining, turn % state.settings.fragments)
    return Round(
        turns=tuple(tuple(state.names[turn]) for turn in turns), messages=tuple(ledger.messages),
        state_bytes=ledger.kinds["outer"], peak_bytes=ledger.peak_bytes - ledger.kinds[WEIGHTS],
        operations=ledger.operations,
    )  # fmt: skip


@torch.no_grad()
def _turn(joining: _Joining, fragment: int) -> None:
    state, named, crew = joining.state, joining.named, joining.crew
    # What a turn that does not hold goes back to lives as long as the turn.
    before = [flat.clone() for flat in state.flats(fragment)]
    exchanged = _exchanged(joining, fragment)
    state.apply(fragment, exchanged.mean)
    if crew is not None:
        size = letter_bytes(joining.around.islands, state.settings.fragments)
        crew.publish([torch.zeros(size, dtype=torch.uint8)])
        crew.publish(state.flats(fragment))
    state.take(fragment, named)
    del before


def _of_one_slab(received: Tensor, chunk: int, bits: int) -> Tensor:
    """Return the products of a first slab: those after it do the same, and leave nothing."""
    return products_of(received, min(chunk, SLAB_VALUES), bits)


def _exchanged(joining: _Joining, fragment: int) -> Exchanged:
    def together(products: Tensor) -> Tensor:
        with joining.ledger.update("world", "round"):
            dist.all_reduce(products)
        return products

    around, state = joining.around, joining.state
    members = Members(
        group=joining.group, me=around.island, count=around.islands, weight=1.0,
        judge=Gate().judge, together=together, products=_of_one_slab,
    )  # fmt: skip
    return mean(members, state.delta(fragment, joining.named), state.settings.bits)
