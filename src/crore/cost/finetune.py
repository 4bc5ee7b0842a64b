"""Memory of training on one card of a few: all weights, or adapters on a frozen base.

Activations, logits and transients come from the memory model of a training step, with every layer
recomputed; only the states differ. Over several cards states are sharded as ZeRO-3 shards them
(arXiv 1910.02054), and one layer at a time is gathered.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from crore.catalog.types import Accelerator
from crore.cost.arrays import Num
from crore.cost.job import Job
from crore.cost.layout import FULL, Layout
from crore.cost.linears import adapter_parameters, linears
from crore.cost.machine import machine_of
from crore.cost.memory import FRAGMENTATION, memory
from crore.cost.serving import DEVICE_CONTEXT_BYTES, Format, expanded_bytes, weight_bytes
from crore.cost.shape import Shape
from crore.cost.stack import stack_of
from crore.cost.step import operations

STACK: Final = "torchtitan"
"""Torch-native: 32-bit weights and AdamW states for full training, loss in 32 bits (as in the
Hugging Face trainers, unless a fused loss is asked for)."""
LORA_RANK: Final = 16
"""Default of the fine-tuning guides; QLoRA's paper used 64."""
ADAPTER_BYTES: Final = {"weights": 2.0, "gradients": 2.0, "optimizer": 8.0}
"""Bytes per adapter parameter: 16-bit weights and gradients, two 32-bit AdamW moments (not paged
to the host)."""


def training_job(
    shape: Shape, accelerator: Accelerator, half: str, *, tokens: Num, batch: Num, cards: Num
) -> Job:
    """Return the job of training with `batch` sequences of `tokens` a card, every layer recomputed.

    `half` is the 16-bit format; InputError when the part has no such peak.
    """
    layout = Layout(dp_shard=cards, micro_batch=batch, recompute=FULL, zero=3.0)
    return Job(
        shape=shape, layout=layout, machine=machine_of(accelerator, half), stack=stack_of(STACK),
        seq_len=tokens, global_batch=batch * cards,
    )  # fmt: skip


def training_parts(job: Job) -> dict[str, Num]:
    """Return bytes on one card of training every weight, by part."""
    parts = memory(job, operations(job)).parts
    return {**parts, "context": DEVICE_CONTEXT_BYTES + 0.0 * parts["context"]}


def adapter_parts(job: Job, base: Format, rank: float = LORA_RANK) -> dict[str, Num]:
    """Return bytes on one card of training LoRA adapters over a frozen base at a format, by part.

    LoRA: arXiv 2106.09685, on all linear layers; with an nf4 base it is QLoRA (arXiv 2305.14314).
    The adapters' own activations, `rank` wide, are left out.
    """
    full = memory(job, operations(job)).parts
    found, cards = linears(job.shape), job.layout.dp_shard
    frozen = weight_bytes(job.shape, base, found)
    layer = frozen / job.shape.layers * (1 + job.layout.prefetch)
    # Gathering brings at most what this card does not hold.
    gathered = np.minimum(layer, frozen * (1 - 1 / cards))
    adapters = adapter_parameters(found, rank) / cards
    moving = {
        "adapters": adapters * sum(ADAPTER_BYTES.values()),
        "activations": full["activations"],
        "logits": full["logits"],
        "working": full["working"] + expanded_bytes(base, found),
    }
    changing = sum(moving.values(), start=np.asarray(0.0))
    return {
        "weights": frozen / cards,
        "gathered layers": gathered,
        **moving,
        "fragmentation": FRAGMENTATION * changing,
        "context": DEVICE_CONTEXT_BYTES + 0.0 * changing,
    }
