"""A backward pass of a step on one rank: what gradients and whole weights are there around it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from crore.cost.arrays import Num
from crore.cost.memory_flight import chunks
from crore.cost.memory_rank import Rank
from crore.cost.memory_shards import Block, either, gathered_bytes
from crore.cost.memory_sizes import FLOAT
from crore.cost.memory_tape import Top

NOTHING = Block(whole=0.0, filled=0.0, shard=0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """Bytes alive at one moment by kind; floats or `[N]`."""

    activations: Num = 0.0
    logits: Num = 0.0
    working: Num = 0.0
    gradients: Num = 0.0
    gathered: Num = 0.0

    @property
    def total(self) -> Num:
        """All together."""
        return self.activations + self.logits + self.working + self.gradients + self.gathered

    def only(self, here: Num) -> Moment:
        """Return the moment where `here` is 1, and nothing where it is 0."""
        if np.ndim(here) == 0 and here == 1:
            return self
        return Moment(**{f.name: getattr(self, f.name) * here for f in fields(Moment)})


@dataclass(frozen=True, kw_only=True)
class State:
    """A backward pass of a step: how many micro-batches are held, what gradients are there."""

    rank: Rank
    later: bool
    """Whether there are gradients of earlier micro-batches."""
    share: Num
    """Of the rank's layers, those that have them; the last ones come first."""
    held: Num
    """Micro-batches whose activations are there."""
    last: bool = True
    """Whether it is the last time that is looked at, when passes reach the rank's first stage."""

    @property
    def reaches_first(self) -> Num:
        """Return 1 where a backward pass goes through the rank's first stage."""
        return 1.0 if self.last else np.equal(chunks(self.rank.job), 1) * 1.0

    def base(self, done: Block) -> tuple[Num, Num]:
        """Return gradients at a moment: counted as such, and made in this pass and not yet.

        `done` are the blocks whose gradients this pass has made.
        """
        held = self.rank.held
        if self.later:
            return self._earlier(), 0.0
        reduces = self.rank.reduces(later=False)
        made = FLOAT * done.whole
        kept = np.where(held.wraps, reduces * FLOAT * done.shard, made)
        return kept, held.wraps * (1 - reduces) * made

    def _earlier(self) -> Num:
        """Return the gradients of earlier micro-batches: shards where each one reduced them."""
        rank, held = self.rank, self.rank.held
        every = 1.0 if self.last else np.equal(self.share, 1) * 1.0
        share = np.maximum(self.share, held.together)
        layers = rank.sums.whole - held.table.whole - held.head.whole
        table = np.maximum(every, held.together) * held.table.whole
        whole = share * layers + held.head.whole + table
        reduced = held.wraps * (1 - rank.piped) * np.greater_equal(rank.job.layout.zero, 2)
        return FLOAT * np.where(reduced, rank.sums.shard, whole)

    @property
    def stays(self) -> Num:
        """Return 1 where a weight's gradient stays beside the sum until the block's end."""
        rank = self.rank
        if not self.later:
            return 1.0
        adds = np.maximum(1 - rank.held.wraps, (1 - rank.z.mixed) * (1 - rank.reduces(later=True)))
        below = np.less(rank.job.layout.zero, 2) * (1 - rank.z.mixed)
        return 1.0 - np.maximum(adds, below)

    @property
    def lingers(self) -> Num:
        """The gradient that was sent back last: schedules of one stage hold it until the next."""
        rank = self.rank
        single = np.equal(chunks(rank.job), 1)
        return self.later * single * np.greater(rank.place.receives, 0) * rank.z.cut

    @property
    def counted(self) -> Num:
        """Return 1 where a weight's gradient is one as soon as it is made."""
        return (1 - self.rank.held.wraps) * (0.0 if self.later else 1.0)


def whole_weights(rank: Rank, block: Num, above: Num) -> Num:
    """Return whole weights while `block` bytes are at work, `above` those pipelines leave whole."""
    job, held = rank.job, rank.held
    some = block + gathered_bytes(job, held.table.times(held.together)) + rank.piped * above
    every = gathered_bytes(job, rank.sums)
    unwrapped = (1 - held.wraps_experts) * gathered_bytes(job, held.experts.times(held.moe))
    return held.wraps * np.where(rank.fully, some, every - unwrapped)


def left_whole(rank: Rank, done: Block, experts: Num) -> Num:
    """Return the bytes of blocks that are whole, `experts` of them without a wrap left out."""
    held = rank.held
    left_out = (1 - held.wraps_experts) * gathered_bytes(rank.job, held.experts.times(experts))
    return gathered_bytes(rank.job, done) - left_out


def last_block(rank: Rank) -> Block:
    """Return the block of the last layer: its plain part."""
    return either(np.greater(rank.place.moe, 0), rank.held.sparse, rank.held.dense)


def at_top(top: Top, state: State, around: Moment) -> Moment:
    """Return the highest moment of a pass, with what is there around it."""
    later = top.gradients * (1 - state.counted)
    return replace(
        around, working=around.working + top.made + later,
        gradients=around.gradients + top.gradients * state.counted,
    )  # fmt: skip
