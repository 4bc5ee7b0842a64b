"""How a model is split over GPUs: the columns every other module reads.

Axis names are PyTorch's: `pp, dp_replicate, dp_shard, cp, tp, ep` (and `etp` for tensor
parallelism inside an expert). Experts are spread over ranks that otherwise are data, context or
tensor parallel, so `gpus = pp · dp_replicate · dp_shard · cp · tp`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crore.cost.arrays import Num
from crore.cost.shape import Shape

RECOMPUTE: Final = ("none", "light", "selective", "full")
"""What a layer drops and computes again.

`light`: outputs of norms, activations and MLA up-projections (Megatron's modules layernorm,
moe_act, mla_up_proj; arXiv 2412.19437 §3.2.3). `selective`: the attention core (arXiv 2205.05198),
or in torch-native stacks everything but attention and every second product. `full`: the layer.
"""
FULL: Final = float(RECOMPUTE.index("full"))
SELECTIVE: Final = float(RECOMPUTE.index("selective"))
LIGHT: Final = float(RECOMPUTE.index("light"))
ZERO: Final = ("none", "zero1", "zero2", "zero3")
OPTIMIZERS: Final = ("adamw", "muon")
"""AdamW keeps two moments per weight; Muon one for matrices (its rare AdamW weights left out)."""
MOMENT_BYTES: Final = 4.0
"""One 32-bit moment."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """One parallel layout per entry; every field a float or `[N]`."""

    pp: Num = 1.0
    vpp: Num = 1.0
    """Model chunks per pipeline rank."""
    dp_replicate: Num = 1.0
    dp_shard: Num = 1.0
    """Ranks that share one copy of what ZeRO shards."""
    cp: Num = 1.0
    tp: Num = 1.0
    ep: Num = 1.0
    etp: Num = 1.0
    """Tensor parallelism inside an expert; `tp` when the stack has no separate setting."""
    micro_batch: Num = 1.0
    """Sequences per pass and data-parallel rank."""
    schedule: Num = 1.0
    """Row of the schedule table."""
    sequence_parallel: Num = 0.0
    recompute: Num = 0.0
    """Index into RECOMPUTE."""
    recompute_layers: Num = -1.0
    """Layers per stage that `full` recomputes; -1 for all of them."""
    zero: Num = 1.0
    """ZeRO stage 0-3; 3 is fully sharded data parallel."""
    prefetch: Num = 1.0
    """Layers a fully sharded run gathers ahead."""
    tp_overlap: Num = 0.0
    offload_optimizer: Num = 0.0
    """Share of optimizer states kept in host memory."""
    offload_activations: Num = 0.0
    """Share of stored activations moved to host memory between forward and backward."""
    end_slots: Num = 0.0
    """1 when embedding and head each take one layer's place in the pipeline."""

    @property
    def dp(self) -> Num:
        """Data-parallel ranks."""
        return self.dp_replicate * self.dp_shard

    @property
    def gpus(self) -> Num:
        """GPUs of the world."""
        return self.pp * self.dp * self.cp * self.tp


def micro_batches(layout: Layout, global_batch: Num) -> Num:
    """Return micro-batches per step and data-parallel rank."""
    return global_batch / (layout.dp * layout.micro_batch)


def layers_per_stage(layout: Layout, layers: Num) -> Num:
    """Return layers on the fullest pipeline rank: `ceil` over ranks, ends counted as slots."""
    slots = layers + 2 * layout.end_slots * np.greater(layout.pp, 1)
    return np.ceil(slots / layout.pp)


def rules(
    layout: Layout, shape: Shape, global_batch: Num, gpus: Num, seq_len: Num
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield (reason, mask of candidates that break the rule) for every divisibility rule."""
    expert_ranks = layout.dp * layout.cp * layout.tp
    chunks = layout.pp * layout.vpp
    yield "pp x dp x cp x tp is not the GPU count", np.not_equal(layout.gpus, gpus)
    yield "tp does not divide the attention heads", indivisible(shape.heads, layout.tp)
    yield "tp does not divide the feed-forward width", indivisible(shape.ffn, layout.tp)
    yield (
        "tp does not divide the shared experts' width",
        indivisible(shape.shared_ffn, layout.tp),
    )
    yield (
        "etp does not divide the experts' width",
        np.greater(shape.experts, 0) & indivisible(shape.moe_ffn, layout.etp),
    )
    yield (
        "tp x cp does not divide the sequence",
        np.greater(layout.sequence_parallel, 0) & indivisible(seq_len, layout.tp * layout.cp),
    )
    yield (
        "cp does not cut the sequence into even halves",
        np.greater(layout.cp, 1) & indivisible(seq_len, 2 * layout.cp),
    )
    yield "more pipeline chunks than layers", np.greater(chunks, np.maximum(shape.layers, 1))
    yield (
        "global batch is no multiple of data-parallel ranks x micro-batch",
        indivisible(global_batch, layout.dp * layout.micro_batch),
    )
    yield (
        "interleaving needs micro-batches in multiples of pp",
        np.greater(layout.vpp, 1) & indivisible(micro_batches(layout, global_batch), layout.pp),
    )
    yield "ep does not divide the experts", indivisible(shape.experts, layout.ep)
    dense = np.equal(shape.experts, 0)
    yield "ep or etp without experts", dense & np.greater(layout.ep * layout.etp, 1)
    yield (
        "ep x etp does not divide the ranks of a stage",
        indivisible(expert_ranks, layout.ep * layout.etp),
    )


def indivisible(value: Num, by: Num) -> NDArray[np.bool_]:
    """Tell where `by` does not divide a number below 2^52; a third of the time of a remainder."""
    times = np.asarray(value / by)
    cut: NDArray[np.bool_] = np.not_equal(times, np.floor(times))
    return cut
