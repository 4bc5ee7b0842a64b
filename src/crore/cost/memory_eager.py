"""Peak tensor bytes of one rank of the eager stack: the highest of a few moments of a step.

At the head and the loss every activation is kept and logits are made. In the last layer's backward
pass most activations are still there and gradients begin; in the first layer's nearly all gradients
exist. What lies between is between them. Each is looked at in a step's first backward pass and in
later ones, when there are gradients to add to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from crore.cost.arrays import Num, present
from crore.cost.job import Job, Place
from crore.cost.memory_ends import forward, head, table
from crore.cost.memory_flight import Flight, ends, flights
from crore.cost.memory_halves import split
from crore.cost.memory_layer_pass import layers
from crore.cost.memory_rank import Rank
from crore.cost.memory_sizes import FLOAT
from crore.cost.memory_state import Moment, State
from crore.cost.schedules import schedule_code

V: Final = float(schedule_code("zb-v"))
PARTS: Final = ("activations", "logits", "working", "gradients", "gathered")


def rank_memory(job: Job, place: Place, position: Num) -> dict[str, Num]:
    """Return the parts of the peak of one rank; `position` is its place in the pipeline, from 0."""
    rank = Rank(job=job, place=place, position=position)
    best = _highest(list(moments(rank)))
    shard = rank.sums.shard
    return {
        "weights": FLOAT * shard, "gradients": best["gradients"],
        "optimizer": job.state_bytes * shard, "gathered layers": best["gathered"],
        "activations": best["activations"] + rank.always, "logits": best["logits"],
        "working": best["working"],
    }  # fmt: skip


def kept_bytes(job: Job) -> Num:
    """Return weights and optimizer states of the fullest rank: in every peak, and cheap to ask."""
    most: Num = 0.0
    for place, position in _places(job):
        most = np.maximum(most, Rank(job=job, place=place, position=position).sums.shard)
    return (FLOAT + job.state_bytes) * most


def floor_bytes(job: Job) -> Num:
    """Return tensor bytes that a peak of `eager_parts` never undercuts, for a tenth of its work.

    The first rank's, at the end of the forward and of the backward pass: that tells most of what
    does not fit.
    """
    place, position = _places(job)[0]
    rank = Rank(job=job, place=place, position=position)
    most: Num = 0.0
    for state, flight, here in _times(rank):
        for moment in (forward(state), table(state).only(place.first * state.reaches_first)):
            most = np.maximum(most, _left(moment, flight).total * here)
    return (FLOAT + job.state_bytes) * rank.sums.shard + rank.always + most


def eager_parts(job: Job) -> dict[str, Num]:
    """Return the parts of the peak of the rank that has the highest."""
    return _fullest(job)[0]


def activation_parts(job: Job) -> dict[str, Num]:
    """Return what the activations of `eager_parts` are: there all the time, or for a pass."""
    parts, always = _fullest(job)
    return {
        "kept for backward passes by layers and head": parts["activations"] - always,
        "inputs, receive buffers, tables of positions, masks": always,
    }


def _fullest(job: Job) -> tuple[dict[str, Num], Num]:
    """Return the parts of the fullest rank, and of its activations those always there."""
    places = _places(job)
    found = [rank_memory(job, place, position) for place, position in places]
    always = [Rank(job=job, place=place, position=position).always for place, position in places]
    if len(found) == 1:
        return found[0], always[0]
    first, last = (sum(parts.values(), start=np.asarray(0.0)) for parts in found)
    second = np.greater(last, first)
    parts: dict[str, Num] = {
        name: np.where(second, found[1][name], found[0][name]) for name in found[0]
    }
    return parts, np.where(second, always[1], always[0])


def _places(job: Job) -> tuple[tuple[Place, Num], ...]:
    """Return the places, with their positions, one of which has the peak."""
    places = ((job.place, 0.0),) if job.place is not None else ends(job)
    return places if present(np.greater(job.layout.pp, 1)) else places[:1]


def _highest(found: list[Moment]) -> dict[str, Num]:
    best = {name: getattr(found[0], name) for name in PARTS}
    total = found[0].total
    for moment in found[1:]:
        higher = np.greater(moment.total, total)
        total = np.where(higher, moment.total, total)
        best = {n: np.where(higher, getattr(moment, n), best[n]) for n in PARTS}
    return best


def moments(rank: Rank) -> Iterator[Moment]:
    """Yield the moments of a step's first backward pass and of later ones."""
    for state, flight, here in _times(rank):
        for moment in _moments(state):
            yield _left(moment, flight).only(here)


def _times(rank: Rank) -> Iterator[tuple[State, Flight, Num]]:
    """Yield the passes of a step that are looked at, and where there are such."""
    passes = flights(rank.job, rank.position)
    for flight in passes:
        here = np.where(np.greater(flight.share, 0), rank.several, 1.0)
        if present(here):
            state = State(
                rank=rank, later=present(flight.share), share=flight.share, held=flight.held,
                last=flight is passes[-1],
            )  # fmt: skip
            yield state, flight, here


def _left(moment: Moment, flight: Flight) -> Moment:
    """Return a moment with as many whole weights as are left at that time of a step."""
    return replace(moment, gathered=moment.gathered * flight.whole)


def _moments(state: State) -> Iterator[Moment]:
    rank = state.rank
    place = rank.place
    if present(place.last):
        yield from (moment.only(place.last) for moment in head(state))
    yield from layers(state)
    yield forward(state)
    if present(place.first):
        yield table(state).only(place.first * state.reaches_first)
    halved = np.equal(rank.job.layout.schedule, V) * rank.piped
    if state.later and present(halved):
        yield from (moment.only(halved) for moment in split(state))
