"""Messages of crore's own trainer on activations: what its code sends for layers, ends and stages.

Tensor parallelism by DTensor's styles, Ulysses for context, all-to-all for experts, torch's
pipeline stages. Held against the trainer's own steps, message by message, by the rehearsal
(tests/rehearse/test_messages.py). Buffers are those of `collectives`, in 16-bit elements as in all
lists; what is 32 or 64 bits in any format is divided by the width of the others.

Recompute in full sends a layer's forward messages again, but the last: torch stops when what was
asked for is there. The other modes keep what was received.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from crore.cost.arrays import Num, present
from crore.cost.job import Job
from crore.cost.operations import Operation
from crore.cost.schedules import transfers
from crore.cost.step_eager import HALF, INDEX, float32
from crore.cost.step_messages import message

MOMENTS = 2.0
"""Numbers a token that vocabulary-parallel loss sums: the softmax's total, the target's logit."""


def activation_messages(job: Job) -> Iterator[Operation]:
    """Yield every message of a micro-batch that carries activations or their gradients."""
    if present(np.greater(job.layout.tp, 1)):
        yield from _layer_regions(job)
        yield from _end_regions(job)
    if present(np.greater(job.layout.cp, 1)):
        yield from _ulysses(job)
    if present(np.greater(job.layout.ep, 1)):
        yield from _experts(job)
    if present(np.greater(job.layout.pp, 1)):
        yield from _stages(job)


def holds_first(job: Job) -> Num:
    """Return 1 where the rank at hand holds the embedding."""
    return 1.0 if job.place is None else job.place.first


def holds_last(job: Job) -> Num:
    """Return 1 where the rank at hand holds the head."""
    return 1.0 if job.place is None else job.place.last


def _layer_regions(job: Job) -> Iterator[Operation]:
    """Yield what goes into and comes out of attention and feed-forward.

    A sequence's parts are gathered and partial sums scattered, backward the other way round;
    without sequence parallelism sums are reduced, of outputs forward and of inputs backward.
    A mixture of experts takes part with its shared experts alone. Latent attention reduces the
    gradients of its compressed vector and of the one rotary key.
    """
    s, layout = job.shape, job.layout
    several = np.greater(layout.tp, 1) * 1.0
    whole = HALF * job.tokens * s.hidden
    shared = job.stage_moe * np.greater(s.shared_ffn, 0)
    for name, layers, redo in (
        ("attention", job.stage_layers, "layer"),
        ("feed-forward", job.stage_dense + shared, "never"),
    ):
        cut = several * layers * layout.sequence_parallel
        summed = several * layers * (1 - layout.sequence_parallel)
        yield message(f"tp {name} gather", "tp", "all_gather", whole, cut)
        yield message(f"tp {name} scatter", "tp", "reduce_scatter", whole, cut, redo=redo)
        yield message(f"tp {name} all-reduce", "tp", "all_reduce", whole, summed, redo=redo)
    latent = several * s.mla * job.stage_layers
    if present(latent):
        for name, width in (("latent", s.kv_lora), ("rotary key", s.qk_rope)):
            yield message(
                f"tp {name} gradient", "tp", "all_reduce", HALF * job.tokens * width, latent,
                phase="backward", backward=0.0, redo="never",
            )  # fmt: skip


def _end_regions(job: Job) -> Iterator[Operation]:
    """Yield the messages of tables cut by vocabulary, and of the loss over them.

    The loss takes the largest logit of all ranks, then two sums, each of 32 bits a token.
    """
    several = np.greater(job.layout.tp, 1) * 1.0
    sequence = job.layout.sequence_parallel
    size = HALF * job.shape.hidden
    cut, summed = several * sequence, several * (1 - sequence)
    first, last = holds_first(job), holds_last(job)
    positions = np.greater(job.shape.positions, 0) * first
    rows = job.tokens / job.layout.micro_batch
    for name, tokens, here in (("embedding", job.tokens, first), ("positions", rows, positions)):
        if not present(here):
            continue
        yield _end(f"tp {name} scatter", "reduce_scatter", size * tokens, cut * here, "first")
        yield _end(
            f"tp {name} all-reduce", "all_reduce", size * tokens, summed * here, "first", False
        )
    yield _end("tp head gather", "all_gather", size * job.tokens, cut * last, "last")
    yield message(
        "tp head gradient", "tp", "all_reduce", size * job.tokens, summed * last, stage="last",
        phase="backward", backward=0.0,
    )  # fmt: skip
    passes = several * last * (1 + job.mtp)
    numbers = float32(job, job.tokens)
    yield _end("largest logits", "all_reduce", numbers, passes, "last", False)
    yield _end("sums of the loss", "all_reduce", MOMENTS * numbers, passes, "last", False)


def _end(
    name: str, collective: str, buffer: Num, count: Num, stage: str, mirrored: bool = True
) -> Operation:
    return message(
        name, "tp", collective, buffer, count, stage=stage, backward=1.0 if mirrored else 0.0
    )


def _ulysses(job: Job) -> Iterator[Operation]:
    """Yield the exchanges of heads for tokens and back; where keys are few, each query's own."""
    s, layout = job.shape, job.layout
    count = job.stage_layers * np.greater(layout.cp, 1)
    heads = s.heads / layout.tp
    own = s.kv_heads / np.minimum(layout.tp, np.maximum(s.kv_heads, 1.0))
    few = np.not_equal(np.mod(own, layout.cp), 0) | np.greater(s.mla, 0)
    groups = np.where(few, heads, own)
    width = s.head_dim * (1 - s.mla) + (s.qk_nope + s.qk_rope) * s.mla
    value = s.head_dim * (1 - s.mla) + s.v_dim * s.mla
    for name, columns in (
        ("queries", heads * width), ("keys", groups * width), ("values", groups * value),
        ("attended", heads * value),
    ):  # fmt: skip
        yield message(f"cp {name}", "cp", "all_to_all", HALF * job.tokens * columns, count)


def _experts(job: Job) -> Iterator[Operation]:
    """Yield rows to experts and back, and before them how many come from whom.

    The buffer is what is sent or what arrives, whichever is more.
    """
    s, layout = job.shape, job.layout
    count = job.stage_moe * np.greater(layout.ep, 1)
    rows = job.narrow_tokens * s.topk * np.maximum(job.imbalance, 1.0)
    counts = INDEX / job.machine.element_scale * s.experts
    yield message("expert row counts", "ep", "all_to_all", counts, count, backward=0.0)
    for name in ("dispatch", "combine"):
        yield message(f"expert {name}", "ep", "all_to_all", HALF * rows * s.hidden, count)


def _stages(job: Job) -> Iterator[Operation]:
    """Yield what a rank sends to the next stage and is sent; the two directions go at once."""
    layout, place = job.layout, job.place
    parts = layout.tp * layout.sequence_parallel + (1 - layout.sequence_parallel)
    size = HALF * job.tokens * job.shape.hidden / parts
    several = np.greater(layout.pp, 1)
    usual = transfers(layout.schedule, layout.vpp)
    sends, receives = (usual, usual) if place is None else (place.sends, place.receives)
    yield message("pp send", "pp", "p2p", size, sends * several, stage="rank", launches=4.0)
    yield message(
        "pp receive", "pp", "receive", size, receives * several, stage="rank", launches=0.0
    )
