"""Kept tensors and backward passes of expert layers and of latent attention, tensor by tensor.

On a CPU, per token and layer, with K experts a token, X experts in all and w their width: the norm
keeps its input and the normed input; router and shared experts read one `e·h` (shared ones gather
it under sequence parallelism); the router keeps `4·X` of scores, `3·8·K` of numbers and `4·2·K + 8`
of weights; rows that go back are kept as `e·K·h`. Per row that a rank's experts get: the row `e·h`
sorted by expert, two numbers of 8 bytes where experts are spread, and gate, silu, up and product,
`4·e·w`.
"""

from __future__ import annotations

import numpy as np

from crore.cost.arrays import Num, present
from crore.cost.job import Job
from crore.cost.memory_layers import (
    Kept,
    attention_backward,
    core_backward,
    feed_forward_backward,
    gathered_gradient,
    latent_kept,
    norm_backward,
    norm_kept,
    norms,
    product_input,
    region_messages,
    sequence,
    spread_gradient,
)
from crore.cost.memory_sizes import FLOAT, INDEX, Sizes
from crore.cost.memory_tape import Tape


def sparse_kept(job: Job, z: Sizes) -> Kept:
    """Return what an expert sub-layer keeps, its norm included."""
    s = job.shape
    gated = s.matrices - 2
    norm = norm_kept(job, z, z.cut, z.wide, z.row) * (norms(job) - 1)
    shared = np.greater(s.shared_ffn, 0)
    read = z.cut + shared * sequence(job) * z.whole
    numbers = router_kept(job, z)
    inner = (1 + 2 * gated) * z.shared + product_input(z, z.shared)
    none = norm + read + numbers + z.routed + z.arrived + (2 + 2 * gated) * z.expert
    none = none + shared * inner
    spread = np.greater(job.layout.ep, 1)
    sent = spread * (z.arrived + z.routed)
    gathers = shared * region_messages(job, z)
    products = (1 + gated) * (z.expert + shared * z.shared) + z.arrived
    light = products + shared * z.whole + sent + gathers
    selective = sent + gathers + shared * (z.shared + z.whole)
    return Kept(none=none, light=light, selective=selective, late=shared * z.whole)


def router_kept(job: Job, z: Sizes) -> Num:
    """Return the router's scores, orders and weights."""
    s, tokens = job.shape, job.narrow_tokens
    spread = np.greater(job.layout.ep, 1)
    several = np.greater(s.topk, 1)
    own = FLOAT * (s.experts + s.topk * (1 + several) + 2 * several) + z.mixed * 2 * s.topk
    rows = tokens * s.topk * (3 * INDEX) + spread * job.expert_tokens * 2 * INDEX
    kept: Num = tokens * own + rows
    return kept


def sparse_backward(job: Job, z: Sizes, tape: Tape) -> None:
    """Write the backward pass of an expert sub-layer up to the experts' gradients' own end."""
    s = job.shape
    if present(s.shared_ffn):
        shared = np.greater(s.shared_ffn, 0)
        weight = shared * z.element * s.shared_ffn / job.layout.tp * s.hidden
        gathered_gradient(job, z, tape)
        feed_forward_backward(job, z, tape, z.shared, weight, sequence(job) * z.whole)
        tape.free(sequence(job) * z.whole)
        spread_gradient(job, z, tape)
    tape.make(2 * z.routed).free(2 * z.routed)
    tape.make(z.routed).free(z.routed)
    spread = np.greater(job.layout.ep, 1)
    tape.make(spread * z.arrived).free(spread * z.routed)
    tape.make(spread * z.arrived).free(spread * z.arrived)


def experts_backward(job: Job, z: Sizes, tape: Tape) -> None:
    """Write the backward pass of the routed experts' products."""
    s = job.shape
    gated = s.matrices - 2
    weight = z.element * s.experts / job.layout.ep * s.moe_ffn / job.layout.etp * s.hidden
    tape.make(weight + z.expert).free(weight)
    tape.gradient(weight).free(z.arrived, z.expert)
    tape.make(gated * 2 * z.expert).free(gated * 3 * z.expert)
    tape.make(z.expert).free(2 * z.expert)
    for times in (1.0, gated):
        tape.make(times * (weight + z.arrived)).free(times * weight)
        tape.gradient(times * weight).free(times * z.expert)
    tape.free(z.arrived)
    tape.make(gated * z.arrived).free(gated * 2 * z.arrived)


def tokens_backward(job: Job, z: Sizes, tape: Tape) -> None:
    """Write the rest of the pass: rows go back, gradients of their copies are added, the norm."""
    spread = np.greater(job.layout.ep, 1)
    tape.make(spread * z.arrived).free(spread * z.arrived)
    tape.make(spread * z.routed).free(spread * z.arrived)
    shared = np.greater(job.shape.shared_ffn, 0)
    tape.make(z.routed + z.cut).free(2 * z.routed)
    tape.make(shared * z.cut).free(shared * 2 * z.cut)
    tape.free(router_kept(job, z), z.cut)
    tape.make(2 * z.cut).free(2 * z.cut)
    norm_backward(job, z, tape, z.cut, z.wide, z.row)


def any_attention_backward(job: Job, z: Sizes, tape: Tape) -> None:
    """Write the backward pass of attention of either kind."""
    if not present(job.shape.mla):
        attention_backward(job, z, tape)
        return
    _latent_backward(job, z, tape)


def _latent_backward(job: Job, z: Sizes, tape: Tape) -> None:
    """Write latent attention's pass; its matrices are small, so their order is not followed."""
    s, tp = job.shape, job.layout.tp
    output = z.element * s.hidden * s.heads * s.v_dim / tp
    core_backward(job, z, tape, output)
    rest = z.element * job.weights.attention / tp - output
    kept = latent_kept(job, z)
    tape.gradient(rest).make(2 * z.whole).free(kept, z.query + z.key + z.value)
    tape.free(z.whole, product_input(z, z.whole, 2.0), z.eight * job.weights.attention / tp)
    spread_gradient(job, z, tape)
    norm_backward(job, z, tape, z.cut, z.wide, z.row)
