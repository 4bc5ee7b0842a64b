"""One question to the cost model: this model, so split, on that machine, by this software."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from crore.cost.arrays import Bool, Num, present
from crore.cost.layout import FULL, LIGHT, SELECTIVE, Layout, layers_per_stage, micro_batches
from crore.cost.machine import Machine
from crore.cost.operations import Operation
from crore.cost.shape import Shape, Weights, weights
from crore.cost.stack import Stack


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """What one rank of a pipeline holds, all its stages together; each a float or `[N]`."""

    layers: Num
    moe: Num = 0.0
    """Expert layers among them."""
    first: Num = 1.0
    """1 where it holds the embedding."""
    last: Num = 1.0
    """1 where it holds the head."""
    sends: Num = 0.0
    """Activations it sends to another rank per micro-batch; as many gradients come back."""
    receives: Num = 0.0
    """Activations it is sent per micro-batch; as many gradients go back."""


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
    document_len: Num = 0.0
    """`E[len^2]/E[len]` of documents packed into a sequence that do not see each other, in tokens;
    0 when attention reaches over the whole sequence."""
    mtp: Num = 0.0
    """Multi-token-prediction modules trained."""
    imbalance: Num = 1.0
    """Tokens of the fullest expert rank over the mean (1 = balanced routing)."""
    optimizer_bytes: Num = -1.0
    """Optimizer state bytes per parameter; -1 for the stack's own (AdamW)."""
    grad_bytes: Num = -1.0
    """Gradient buffer bytes per parameter; -1 for the stack's own."""
    place: Place | None = None
    """One rank of the pipeline; None for the fullest one, with both ends priced apart."""

    @cached_property
    def weights(self) -> Weights:
        """Weight elements by kind of layer."""
        return weights(self.shape)

    @cached_property
    def gradient_bytes(self) -> Num:
        """Gradient buffer bytes per parameter: the job's own, or else the stack's."""
        return np.where(np.less(self.grad_bytes, 0), self.stack.grad_bytes, self.grad_bytes)

    @cached_property
    def eager(self) -> Num:
        """1 where every operation is a kernel of its own: an eager stack on a CPU."""
        return self.stack.eager * self.machine.cpu

    @cached_property
    def state_bytes(self) -> Num:
        """Optimizer state bytes per parameter: the job's own, or else the stack's."""
        own = self.optimizer_bytes
        return np.where(np.less(own, 0), self.stack.optimizer_bytes, own)

    @cached_property
    def context_len(self) -> Num:
        """Tokens of the sequence that attention reaches over."""
        whole = np.equal(self.document_len, 0)
        return np.where(whole, self.seq_len, np.minimum(self.document_len, self.seq_len))

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
    def stage_layers(self) -> Num:
        """Layers on the pipeline rank at hand, which is the fullest unless a place is given."""
        if self.place is not None:
            return self.place.layers
        return layers_per_stage(self.layout, self.shape.layers)

    @cached_property
    def stage_share(self) -> Num:
        """Share of the model's layers on that rank."""
        return self.stage_layers / self.shape.layers

    @cached_property
    def stage_moe(self) -> Num:
        """Expert layers on that rank: on the fullest, all of it behind leading dense layers."""
        if self.place is not None:
            return self.place.moe
        s = self.shape
        behind = s.moe / np.maximum(s.layers - s.leading, 1.0) * self.stage_layers
        leads = np.greater(s.leading, 0)
        return np.where(leads, np.minimum(behind, s.moe), s.moe * self.stage_share)

    @cached_property
    def stage_dense(self) -> Num:
        """Dense feed-forward layers on that rank."""
        if self.place is not None:
            return self.place.layers - self.place.moe
        s = self.shape
        leads = np.greater(s.leading, 0)
        return np.where(leads, self.stage_layers - self.stage_moe, s.dense * self.stage_share)

    @cached_property
    def redo_layer(self) -> Num:
        """Share of a stage's layers that are recomputed in full."""
        full = np.equal(self.layout.recompute, FULL)
        first = self.layout.recompute_layers
        share = np.where(np.less(first, 0), 1.0, np.minimum(first / self.stage_layers, 1.0))
        return full * share

    @cached_property
    def by_operation(self) -> Bool:
        """True where selective recompute keeps attention and redoes every second product."""
        return np.less(self.stack.selective_kept, 1)

    @cached_property
    def _shares(self) -> dict[tuple[str, str, str], Num]:
        """Shares by question, mode and kind: a hundred operations ask few distinct ones."""
        return {}

    def redo_share(self, op: Operation) -> Num:
        """Share of an operation's executions that run again before the backward pass."""
        key = ("redo", op.redo, op.kind)
        if key not in self._shares:
            self._shares[key] = self._redo_share(op)
        return self._shares[key]

    def _redo_share(self, op: Operation) -> Num:
        share = self.redo_layer
        if op.redo == "light":
            share = share + np.equal(self.layout.recompute, LIGHT)
        selective = np.equal(self.layout.recompute, SELECTIVE)
        if present(selective):
            per_op = {"gemm": 0.5, "memory": 1.0}.get(op.kind, 0.0)
            core = float(op.redo == "core")
            share = share + selective * np.where(self.by_operation, per_op, core)
        return share

    def kept_share(self, op: Operation) -> Num:
        """Share of an operation's saved bytes that stays until the backward pass.

        Selective recompute by operation drops inputs of products where an element-wise kernel makes
        them again, and part of the other saved tensors (pytorch/torchtitan policy op; MaxText
        save_dot_except_mlp).
        """
        key = ("kept", op.drop, op.kind)
        if key not in self._shares:
            self._shares[key] = self._kept_share(op)
        return self._shares[key]

    def _kept_share(self, op: Operation) -> Num:
        dropped = self.redo_layer
        if op.drop == "light":
            dropped = dropped + np.equal(self.layout.recompute, LIGHT)
        selective = np.equal(self.layout.recompute, SELECTIVE)
        if present(selective):
            light = float(op.drop == "light") if op.kind == "gemm" else 0.0
            per_op = 1 - self.stack.selective_kept if op.kind == "memory" else light
            core = float(op.drop == "core")
            dropped = dropped + selective * np.where(self.by_operation, per_op, core)
        return 1 - dropped

    @cached_property
    def expert_tokens(self) -> Num:
        """Routed tokens one rank's experts process per micro-batch."""
        routed = self.tokens * self.shape.topk / self.layout.tp * self.layout.etp
        return routed * self.imbalance
