"""One rank of the eager stack: its weights, what a micro-batch keeps, what is always there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from crore.cost.arrays import Num, present
from crore.cost.job import Job, Place
from crore.cost.memory_experts import (
    any_attention_backward,
    experts_backward,
    sparse_backward,
    sparse_kept,
    tokens_backward,
)
from crore.cost.memory_flight import chunks
from crore.cost.memory_layers import (
    Kept,
    attention_kept,
    dense_backward,
    dense_kept,
    full,
    residuals,
)
from crore.cost.memory_shards import Block, Holding, gathered_bytes, holding
from crore.cost.memory_sizes import FLOAT, INDEX, Sizes, sizes
from crore.cost.memory_tape import Tape


@dataclass(frozen=True, kw_only=True)
class Rank:
    """One rank of a pipeline: what it holds, and what its moments add."""

    job: Job
    place: Place
    position: Num

    @cached_property
    def z(self) -> Sizes:
        """Sizes of a micro-batch's tensors."""
        return sizes(self.job)

    @cached_property
    def held(self) -> Holding:
        """Its weights."""
        return holding(self.job, self.place)

    @cached_property
    def sums(self) -> Block:
        """All of its weights together."""
        return self.held.sums

    @cached_property
    def piped(self) -> Num:
        """1 in a pipeline of several ranks."""
        return np.greater(self.job.layout.pp, 1) * 1.0

    @cached_property
    def fully(self) -> Num:
        """1 where weights are freed after each use (ZeRO-3)."""
        return self.held.wraps * np.equal(self.job.layout.zero, 3)

    @cached_property
    def several(self) -> Num:
        """1 where a step has several micro-batches."""
        return np.greater(self.job.micro_batches, 1) * 1.0

    def reduces(self, *, later: bool) -> Num:
        """Return 1 where a backward pass sends gradients off block by block.

        In a pipeline none does, below ZeRO-2 the last one of a step.
        """
        alone = self.held.wraps * (1 - self.piped)
        if later:
            return alone
        return alone * np.maximum(np.greater_equal(self.job.layout.zero, 2), 1 - self.several)

    @cached_property
    def attention(self) -> Kept:
        """What a layer's attention keeps."""
        return attention_kept(self.job, self.z)

    @cached_property
    def feeds(self) -> tuple[Kept, Kept]:
        """What a dense feed-forward and an expert sub-layer keep."""
        sparse = sparse_kept(self.job, self.z) if present(self.place.moe) else _NOTHING
        return dense_kept(self.job, self.z), sparse

    @cached_property
    def dense_tapes(self) -> tuple[Tape]:
        """The backward pass of a layer without experts."""
        tape = Tape()
        dense_backward(self.job, self.z, tape)
        any_attention_backward(self.job, self.z, tape)
        return (tape,)

    @cached_property
    def sparse_tapes(self) -> tuple[Tape, Tape]:
        """The backward pass of an expert layer, up to the end of the experts' gradients and on."""
        again, first = self._rows_again(), Tape()
        first.make(again).free(again)
        sparse_backward(self.job, self.z, first)
        experts_backward(self.job, self.z, first)
        second = Tape().make(first.top().end)
        tokens_backward(self.job, self.z, second)
        any_attention_backward(self.job, self.z, second)
        return first, second

    def _rows_again(self) -> Num:
        """Return what a recomputed expert layer has beside what it keeps: rows on their way.

        And a gather: FSDP gathers the next experts ahead while these run once more.
        """
        z = self.z
        redo = np.greater(self.job.layout.recompute, 0)
        rows = np.maximum(3 * z.arrived - 4 * z.shared - z.whole, 0.0)
        own = self.fully * self.held.wraps_experts
        return redo * (rows + own * gathered_bytes(self.job, self.held.experts))

    @cached_property
    def _kinds(self) -> dict[tuple[str, bool], Num]:
        """What was asked of a kind of layer before: it is the same for each."""
        return {}

    def layer(self, *, sparse: bool) -> Num:
        """Return what a layer keeps of a micro-batch, its part of the residual stream included."""
        if ("kept", sparse) not in self._kinds:
            self._kinds["kept", sparse] = self._layer(sparse=sparse)
        return self._kinds["kept", sparse]

    def _layer(self, *, sparse: bool) -> Num:
        job, parts = self.job, (self.attention, self.feeds[sparse])
        stream = residuals(job, self.z) * 2 * self.z.cut
        kept = sum(part.of(job) for part in parts)
        some = np.where(np.greater(job.layout.recompute, 0), kept + self.z.cut, kept + stream)
        redone = job.redo_layer
        return np.where(np.equal(full(job), 1),
                        redone * self.z.cut + (1 - redone) * (kept + stream), some)  # fmt: skip

    def again(self, *, sparse: bool) -> Num:
        """Return what a recomputed layer's backward pass begins with beyond what was kept."""
        if ("again", sparse) not in self._kinds:
            self._kinds["again", sparse] = self._again(sparse=sparse)
        return self._kinds["again", sparse]

    def _again(self, *, sparse: bool) -> Num:
        job = self.job
        anew = sum(part.again(job) for part in (self.attention, self.feeds[sparse]))
        stream = residuals(job, self.z) * self.z.cut
        return np.where(np.greater(job.layout.recompute, 0), anew + stream, 0.0)

    @cached_property
    def kept(self) -> Num:
        """What a micro-batch keeps on this rank between its passes, the head left out."""
        place, job = self.place, self.job
        layers = (place.layers - place.moe) * self.layer(sparse=False)
        if present(place.moe):
            layers = layers + place.moe * self.layer(sparse=True)
        own, parts = residuals(job, self.z), chunks(job)
        redo = np.greater(job.layout.recompute, 0)
        sent = self.piped * (parts - place.last)
        out = np.where(redo, sent + place.last * own, (1 - own) * sent)
        given = np.where(redo, place.first - parts, place.first * own)
        return layers + self.z.cut * (out + given) + place.first * self._looked_up

    @property
    def _looked_up(self) -> Num:
        """What a table cut by rows keeps of each token: its row here, and whether it is here."""
        return np.greater(self.job.layout.tp, 1) * (INDEX + 1) * self.job.tokens

    def read(self, after: Num) -> Num:
        """Return what the residual stream has lost beside the tensors of the `after` layers above.

        A layer's output goes with the norm that read it; a pipeline holds a stage's last one.
        """
        own, last = residuals(self.job, self.z), self.place.last
        held = self.piped * (1 - last)
        lost = np.where(np.greater(after, 0), 1.0, last) * (1 - held)
        redo = np.greater(self.job.layout.recompute, 0)
        return own * self.z.cut * np.where(redo, last, lost)

    @cached_property
    def always(self) -> Num:
        """What is there all the time: inputs, receive buffers, tables of positions, masks."""
        job, s = self.job, self.job.shape
        own = job.micro_batches * job.layout.micro_batch * job.seq_len / job.layout.cp
        turned = np.where(s.mla, s.qk_rope, s.head_dim) * np.equal(s.positions + s.alibi, 0)
        tables = 2 * FLOAT * job.seq_len / job.layout.cp * turned * chunks(job)
        heads = np.where(
            s.alibi, s.heads / (job.layout.tp * job.layout.cp), np.greater(s.windowed, 0) * 1.0
        )
        masks = self.z.element * heads * job.seq_len**2
        buffers = (self.place.sends + self.place.receives) * job.micro_batches * self.z.cut
        return 2 * INDEX * own + tables + masks + buffers


_NOTHING = Kept(none=0.0, light=0.0, selective=0.0, late=0.0)
