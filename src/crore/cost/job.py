"""One question to the cost model: this model, so split, on that machine, by this software."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from crore.cost.arrays import Num
from crore.cost.layout import Layout, layers_per_stage, micro_batches
from crore.cost.machine import Machine
from crore.cost.shape import Shape, Weights, weights
from crore.cost.stack import Stack


@dataclass(frozen=True, kw_only=True)
class Job:
    """Columns that broadcast against each other; derived columns are computed once."""

    shape: Shape
    layout: Layout
    machine: Machine
    stack: Stack
    seq_len: Num
    """Tokens per sequence."""
    global_batch: Num
    """Sequences per optimizer step."""
    mtp: Num = 0.0
    """Multi-token-prediction modules trained."""
    imbalance: Num = 1.0
    """Tokens of the fullest expert rank over the mean (1 = balanced routing)."""
    optimizer_bytes: Num = -1.0
    """Optimizer state bytes per parameter; -1 for the stack's own (AdamW)."""
    grad_bytes: Num = -1.0
    """Gradient buffer bytes per parameter; -1 for the stack's own."""

    @cached_property
    def weights(self) -> Weights:
        """Weight elements by kind of layer."""
        return weights(self.shape)

    @cached_property
    def tokens(self) -> Num:
        """Tokens of one micro-batch on one rank."""
        return self.layout.micro_batch * self.seq_len / self.layout.cp

    @cached_property
    def narrow_tokens(self) -> Num:
        """Tokens on one rank outside the tensor-parallel regions (sequence parallelism)."""
        sequence = self.layout.sequence_parallel
        return self.tokens * (sequence / self.layout.tp + (1 - sequence))

    @cached_property
    def micro_batches(self) -> Num:
        """Micro-batches per step and rank."""
        return micro_batches(self.layout, self.global_batch)

    @cached_property
    def stage_share(self) -> Num:
        """Share of the model's layers on the fullest pipeline rank."""
        return layers_per_stage(self.layout, self.shape.layers) / self.shape.layers

    @cached_property
    def redo_layer(self) -> Num:
        """Share of a stage's layers that are recomputed in full."""
        full = np.equal(self.layout.recompute, 2)
        first = self.layout.recompute_layers
        stage = layers_per_stage(self.layout, self.shape.layers)
        share = np.where(np.less(first, 0), 1.0, np.minimum(first / stage, 1.0))
        return full * share

    @cached_property
    def redo_core(self) -> Num:
        """1 where the attention core is recomputed."""
        return np.greater_equal(self.layout.recompute, 1) * 1.0

    @cached_property
    def expert_tokens(self) -> Num:
        """Routed tokens one rank's experts process per micro-batch."""
        routed = self.tokens * self.shape.topk / self.layout.tp * self.layout.etp
        return routed * self.imbalance

    @cached_property
    def shard(self) -> Num:
        """Ranks over which fully sharded weights are split (1 below ZeRO-3)."""
        return np.where(np.equal(self.layout.zero, 3), self.layout.dp_shard, 1.0)
