"""Micro-batches that a pipeline rank holds, as torch's schedules order their passes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from crore.cost.arrays import Num
from crore.cost.job import Job, Place
from crore.cost.layout import layers_per_stage
from crore.cost.schedules import chunks_per_rank, schedule_code


def chunks(job: Job) -> Num:
    """Return the stages of a rank."""
    layout = job.layout
    several = np.greater(layout.pp, 1)
    return np.where(several, chunks_per_rank(layout.schedule, layout.vpp), 1.0)


class Flight(NamedTuple):
    """A rank's passes at one time of a step; floats or `[N]`."""

    held: Num
    """Micro-batches of the whole rank whose activations are there."""
    share: Num
    """Of the rank's whole gradients, those that are there."""
    whole: Num
    """Of the rank's weights that FSDP keeps gathered, those that still are."""


def flights(job: Job, position: Num) -> tuple[Flight, ...]:
    """Return what a rank's passes find as a step goes on.

    At its first backward pass, at the next one, and at the first that adds to gradients of every
    stage of the rank; micro-batches are whole ranks' worth. 1F1B holds as many as there are ranks
    from here to the end; interleaving warms up with one round of all chunks but the last and two
    passes for each rank behind; the V holds two passes for each rank wherever it is. `position` is
    the pipeline rank, from 0.
    """
    layout, count = job.layout, job.micro_batches
    parts = chunks(job)
    left = layout.pp - position
    turn = np.minimum(layout.pp, count)
    warm = (parts - 1) * turn + 2 * (left - 1) + 1
    held = np.where(_is(layout.schedule, "interleaved"), warm / parts, left)
    held = np.where(_is(layout.schedule, "zb-v"), layout.pp, held)
    held = np.where(_is(layout.schedule, "gpipe"), count, held)
    piped = np.greater(layout.pp, 1)
    held = np.where(piped, held, 1.0)
    done = np.where(_is(layout.schedule, "zb-v"), 2.0, (parts - 1) * turn + 1) / parts

    def after(passes: Num) -> Num:
        return np.where(piped, np.minimum(held, count - passes), 1.0)

    share, whole = _left_at_the_end(job, parts)
    found = [Flight(after(0.0), 0.0, 1.0), Flight(after(done), share, whole)]
    if np.any(np.greater(parts, 1)):
        found.insert(1, Flight(after(1 / parts), 1 / parts, 1.0))
    return tuple(found)


def _left_at_the_end(job: Job, parts: Num) -> tuple[Num, Num]:
    """Return the shares of gradients and of whole weights there in the passes of the first stage.

    Interleaving with one round of micro-batches ends a stage's passes before the next one's begin,
    and FSDP then reduces the gradients of a stage that has ended, and lets its weights go.
    """
    layout = job.layout
    shards = layout.dp_shard * layout.cp
    once = _is(layout.schedule, "interleaved") * np.less_equal(job.micro_batches, layout.pp)
    wrapped = np.greater(shards * layout.dp_replicate, 1) | np.less(job.machine.element_scale, 2)
    alone = once * wrapped
    share = np.where(alone, (1 + (parts - 1) / shards) / parts, 1.0)
    return share, np.where(alone, 1 / parts, 1.0)


def _is(schedule: Num, name: str) -> Num:
    return np.equal(schedule, schedule_code(name))


def ends(job: Job) -> tuple[tuple[Place, Num], ...]:
    """Return the fullest rank, which holds the embedding, and the last one, with their positions.

    One of the two has the peak. Layers are cut as evenly as can be, the fuller stages first.
    """
    s, layout = job.shape, job.layout
    one = np.equal(layout.pp, 1) * 1.0
    turned = np.greater(layout.pp, 1) * _is(layout.schedule, "zb-v")
    parts = chunks(job)
    each = np.floor(s.layers / (layout.pp * parts)) * parts
    most = np.maximum(layers_per_stage(layout, s.layers), each)
    both = np.maximum(one, turned)
    least = np.where(one, most, each)
    first = Place(
        layers=most, moe=_sparse(job, most, one), first=1.0, last=both,
        sends=np.where(one, 0.0, parts - turned), receives=np.where(one, 0.0, parts - 1 + 0 * one),
    )  # fmt: skip
    last = Place(
        layers=least, moe=np.minimum(s.moe, least * s.moe / np.maximum(s.layers - s.leading, 1.0)),
        first=one, last=np.maximum(1 - turned, one),
        sends=np.where(one, 0.0, parts - 1), receives=np.where(one, 0.0, parts - turned),
    )  # fmt: skip
    return (first, 0.0), (last, layout.pp - 1)


def _sparse(job: Job, layers: Num, one: Num) -> Num:
    s = job.shape
    behind = np.maximum(layers - s.leading, 0.0) * s.moe / np.maximum(s.layers - s.leading, 1.0)
    return np.where(one, s.moe, behind)
