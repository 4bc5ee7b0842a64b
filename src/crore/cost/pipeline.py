"""How long a pipeline's slowest rank waits in a step: the longest way through its passes.

Every schedule's ways are counts (`schedule_paths`); here they are given their seconds and the
longest is taken.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from crore.cost.arrays import Num, present
from crore.cost.schedule_paths import Passes, Path
from crore.cost.schedules import SCHEDULES, Schedule


@dataclass(frozen=True, kw_only=True, slots=True)
class Pipeline:
    """What the ways through a step are made of; every field a float or `[N]`."""

    code: Num
    """Row of the table of schedules."""
    pp: Num
    vpp: Num
    micro_batches: Num
    forward_s: Num
    """Of one micro-batch on one rank, all its chunks: the mean of the ranks but the slowest."""
    backward_s: Num
    """Of its input gradients."""
    weight_s: Num
    """Of its weight gradients."""
    longer_s: Num = 0.0
    """What the slowest rank takes longer than that mean."""
    away: float = 0.0
    """Where the slowest rank is: 0 with the head, as a plan's is, to 1 the farthest from it."""
    hop_s: Num = 0.0
    """Of a message from one stage to the next, beside which ranks compute."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """Seconds per step, each a float or `[N]` and never negative."""

    bubble_s: Num
    """Without messages."""
    messages_s: Num
    """What messages between stages add."""


def waiting(it: Pipeline) -> Waiting:
    """Return how much longer a step is than its micro-batches one by one on the slowest rank.

    Exact for even stages, and for a longer last stage, wherever a schedule's passes are as long as
    its papers assume (input gradients the longest); to within 3 % of a step for others drawn at
    random (benchmarks/schedules.py). Left out: messages that wait for each other on a link.
    """
    if not present(np.greater(it.pp, 1)):
        return Waiting(bubble_s=0.0, messages_s=0.0)
    codes = np.asarray(it.code, dtype=np.intp)
    here = np.flatnonzero(np.bincount(codes.ravel(), minlength=len(SCHEDULES)))
    if here.size == 1:
        return _of(SCHEDULES[here[0]], it)
    shape = np.broadcast_shapes(*(np.shape(getattr(it, field.name)) for field in fields(it)))
    bubble, messages = np.empty(shape), np.empty(shape)
    for row in here:
        part = np.flatnonzero(codes == row)
        found = _of(SCHEDULES[row], _take(it, part))
        bubble[..., part], messages[..., part] = found.bubble_s, found.messages_s
    return Waiting(bubble_s=bubble, messages_s=messages)


def _take(it: Pipeline, part: NDArray[np.intp]) -> Pipeline:
    """Return some of N candidates, the last axis of each column."""
    columns = {field.name: getattr(it, field.name) for field in fields(it)}
    return Pipeline(**{k: x[..., part] if np.ndim(x) else x for k, x in columns.items()})


def _of(row: Schedule, it: Pipeline) -> Waiting:
    """Return the waiting of candidates that have one schedule."""
    stages = np.maximum(it.pp - row.busy_stages, 0.0)
    sent = present(it.hop_s)
    still: Num = 0.0
    whole: Num = 0.0
    for path in row.paths:
        length = _passes_s(path, it, stages)
        still = np.maximum(still, length)
        if sent:
            whole = np.maximum(whole, length + _messages_s(path, it, stages))
    messages = whole - still + _turns_s(row, it) if sent else 0.0
    return Waiting(bubble_s=still, messages_s=messages)


def _passes_s(path: Path, it: Pipeline, stages: Num) -> Num:
    """Return the seconds of a path's passes over those of the slowest rank."""
    passes = _line((_sum(path.stages, it), _sum(path.once, it)), stages) / it.vpp
    each, once = path.apart
    apart = _line((each + path.far * it.away, once), stages)
    if once < 0:
        apart = np.maximum(apart, 0.0)
    if path.elsewhere:
        apart = apart + it.micro_batches
    if any(path.weight_apart):
        rank_s = it.forward_s + it.backward_s + it.weight_s
        share = it.weight_s / np.where(rank_s > 0, rank_s, 1.0)
        apart = apart + _line(path.weight_apart, stages) * share
    return passes - apart * it.longer_s if present(apart) else passes


def _messages_s(path: Path, it: Pipeline, stages: Num) -> Num:
    """Return the seconds of a path's messages; with chunks, as many more times round."""
    return ((_line(path.hops, stages) + 2.0) * it.vpp - 2.0) * it.hop_s


def _turns_s(row: Schedule, it: Pipeline) -> Num:
    """Return what messages add while the pipe is full, after the micro-batches that fill it."""
    if row.turn is None:
        return 0.0
    hidden_s = it.longer_s + _sum(row.turn.slack, it)
    each_s = np.maximum(row.turn.hops * it.vpp * it.hop_s - hidden_s, 0.0)
    if not present(each_s):
        return 0.0
    turns = np.maximum(it.micro_batches - 1 - row.fill_stages * it.pp, 0.0)
    return turns * (1 - 1 / (it.pp * it.vpp)) * each_s


def _line(counts: tuple[Num, Num], stages: Num) -> Num:
    """Return what comes with each stage that waits, and once."""
    each, once = counts
    along = each * stages if present(each) else 0.0
    return along + once if present(once) else along


def _sum(passes: Passes, it: Pipeline) -> Num:
    """Return the seconds of so many passes of each kind."""
    total: Num = 0.0
    for count, each_s in zip(passes, (it.forward_s, it.backward_s, it.weight_s), strict=True):
        if count:
            total = total + count * each_s
    return total
