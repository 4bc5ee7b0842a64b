"""Sizes of the tensors of one micro-batch on one rank, in bytes.

A token's hidden state is whole inside tensor-parallel regions and may be cut along the sequence
between them; what a norm makes of it is 32 bits on a CPU whatever the format.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from crore.cost.arrays import Num
from crore.cost.job import Job

FLOAT: Final = 4.0
INDEX: Final = 8.0
"""Bytes of a token's or an expert's number."""
HALF: Final = 2.0
"""Bytes of a 16-bit element."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """Bytes of tensors; every field a float or `[N]`."""

    element: Num
    """Of one number of an activation, a gathered weight or its gradient."""
    mixed: Num
    """1 where weights are kept in 32 bits and used in 16 or 8."""
    eight: Num
    """1 where linear layers keep their inputs and weights in 8 bits."""
    cpu: Num
    """1 where a norm is made of parts and a mask takes the attention core apart."""
    whole: Num
    """Hidden states of all tokens."""
    cut: Num
    """Hidden states between tensor-parallel regions."""
    wide: Num
    """The same in 32 bits."""
    row: Num
    """One 32-bit number for each of these tokens."""
    query: Num
    key: Num
    value: Num
    """Of all heads of the rank; keys and values of their own, fewer ones."""
    out: Num
    """What the attention core returns."""
    inner: Num
    """One tensor of the dense feed-forward's width."""
    shared: Num
    """One tensor of the shared experts' width."""
    routed: Num
    """Rows that a rank sends to experts."""
    arrived: Num
    """Rows that its experts get."""
    expert: Num
    """One tensor of the experts' width."""
    logits: Num
    """In 32 bits."""


def sizes(job: Job) -> Sizes:
    """Return the sizes of a job's tensors."""
    s, layout, scale = job.shape, job.layout, job.machine.element_scale
    element = HALF * scale
    tokens, tp = job.tokens, layout.tp
    per_query = s.head_dim * (1 - s.mla) + (s.qk_nope + s.qk_rope) * s.mla
    query = element * tokens * s.heads * per_query / tp
    own = s.kv_heads / np.minimum(tp, np.maximum(s.kv_heads, 1.0))
    key = element * tokens * own * s.head_dim
    cut = element * job.narrow_tokens * s.hidden
    mixed = np.less(scale, 2) * 1.0
    return Sizes(
        element=element, mixed=mixed, eight=np.equal(job.machine.narrow, 1) * 1.0,
        cpu=job.machine.cpu, whole=element * tokens * s.hidden, cut=cut,
        wide=FLOAT * job.narrow_tokens * s.hidden, row=FLOAT * job.narrow_tokens,
        query=query, key=np.where(s.mla, query, key), value=np.where(s.mla, query, key), out=query,
        inner=element * tokens * s.ffn / tp, shared=element * tokens * s.shared_ffn / tp,
        routed=element * job.narrow_tokens * s.topk * s.hidden,
        arrived=element * job.expert_tokens * s.hidden,
        expert=element * job.expert_tokens * s.moe_ffn / layout.etp,
        logits=FLOAT * tokens * s.vocab / tp,
    )  # fmt: skip
